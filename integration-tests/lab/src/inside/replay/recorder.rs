// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A disk that notes what is done to it.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;

use crate::inside::command::{kernel_said, run};
use crate::inside::disk::{Mapping, Piece, Table, dmsetup, node, remove};
use crate::inside::replay::Log;

/// A device of dm-log-writes over two pieces of the scratch disk. Dropping it removes it.
pub struct Recorder {
    name: String,
    node: PathBuf,
    disk: Mapping,
    log: Mapping,
}

impl Recorder {
    /// Records all that is done to `disk` on `log`.
    ///
    /// The record begins with a disk of zeros. That `disk` may hold something else shows only to a
    /// reader of what it has not written.
    pub fn new(name: &str, disk: Piece, log: Piece) -> Result<Self> {
        let disk = Mapping::new(&format!("{name}-disk"), disk, Table::Plain)?;
        let log = Mapping::new(&format!("{name}-log"), log, Table::Plain)?;
        let (sectors, below) = (disk.piece().sectors, disk.path().display());
        let table = format!("0 {sectors} log-writes {below} {}", log.path().display());
        dmsetup(&["create", name, "--table", &table])?;
        let found = node(name);
        let recorder = Self {
            name: name.to_owned(),
            node: found.as_deref().unwrap_or(Path::new("")).to_owned(),
            disk,
            log,
        };
        found.map(|_| recorder)
    }

    /// The device node.
    pub fn path(&self) -> &Path {
        &self.node
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.disk.piece().sectors * 512
    }

    /// Changes how the disk below behaves.
    pub fn disk(&self, table: Table) -> Result<()> {
        self.disk.set(table)
    }

    /// What sets marks in the log.
    pub fn marks(&self) -> Result<Marks> {
        let path = "/dev/mapper/control";
        let control = File::options().read(true).write(true).open(path);
        Ok(Marks {
            control: Arc::new(control.with_context(|| format!("cannot open {path}"))?),
            name: self.name.clone(),
        })
    }

    /// Waits until all of the disk's cache is flushed.
    pub fn flush(&self) -> Result<()> {
        let node = self.node.display();
        let file = File::options().write(true).open(&self.node);
        file.and_then(|file| file.sync_all())
            .with_context(|| format!("cannot sync {node}"))
    }

    /// Ends the record and reads it. Nothing may hold the device any more.
    pub fn finish(&self) -> Result<Log> {
        // The kernel writes the rest of the log before this returns.
        run(
            "dmsetup",
            &["remove", "--retry", "--noudevsync", &self.name],
        )?;
        // If it could not go on, only the kernel's log has the reason.
        Log::open(self.log.path(), self.size())
            .with_context(|| kernel_said("log-writes").unwrap_or_default())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Sets marks in a recorder's log. Not by running dmsetup: an emulated machine takes some ten
/// milliseconds to start a program, and the marks are as close as the cuts can be.
#[derive(Clone)]
pub struct Marks {
    control: Arc<File>,
    name: String,
}

/// `struct dm_ioctl` of linux/dm-ioctl.h, then `struct dm_target_msg` with its text.
#[derive(Clone, Copy)]
#[repr(C)]
struct Message {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    /// target_count, open_count, flags, event_nr, padding
    unused: [u32; 5],
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
    sector: u64,
    text: [u8; TEXT],
}

const TEXT: usize = 64;

/// Bytes of `struct dm_ioctl`.
const HEAD: u32 = 312;

/// DM_TARGET_MSG
const SEND: libc::c_ulong = nix::request_code_readwrite!(0xfd, 14, 312);

impl Marks {
    /// Sets one: all that was durable by now is before it in the log.
    pub fn set(&self, text: &str) -> Result<()> {
        let message = format!("mark {text}");
        ensure!(
            message.len() < TEXT && self.name.len() < 128 && !text.contains(char::is_whitespace),
            "`{text}` is too long for a mark, or not one word"
        );
        let mut order = Message {
            version: [4, 0, 0],
            data_size: u32::try_from(size_of::<Message>())?,
            data_start: HEAD,
            unused: [0; 5],
            dev: 0,
            name: [0; 128],
            uuid: [0; 129],
            data: [0; 7],
            sector: 0,
            text: [0; TEXT],
        };
        order.name[..self.name.len()].copy_from_slice(self.name.as_bytes());
        order.text[..message.len()].copy_from_slice(message.as_bytes());
        // SAFETY: the kernel reads and writes `data_size` bytes at the pointer, which is a live,
        // exclusively borrowed value of that size.
        let done = unsafe { libc::ioctl(self.control.as_raw_fd(), SEND, &raw mut order) };
        Errno::result(done)
            .map(drop)
            .with_context(|| format!("cannot set the mark `{text}` on {}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn a_message_follows_its_head() {
        assert_eq!(offset_of!(Message, dev), 40);
        assert_eq!(offset_of!(Message, sector), usize::try_from(HEAD).unwrap());
        assert_eq!(size_of::<Message>(), 312 + 8 + TEXT);
    }
}
