// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The writing side of the ack area.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use crate::ack::{ALIGN, BlockAck, Bytes, Counters, Header, RECORD, ThreadAck};
use crate::load::{LoadError, size_of};

/// Memory that O_DIRECT takes.
#[derive(Clone)]
#[repr(C, align(4096))]
pub(super) struct Aligned<const N: usize>(pub(super) [u8; N]);

/// Opens a device for reading and writing past the page cache; a regular file through it,
/// because not every filesystem has O_DIRECT.
pub(super) fn open_direct(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if fs::metadata(path)?.file_type().is_block_device() {
        options.custom_flags(libc::O_DIRECT);
    }
    options.open(path)
}

/// An ack area that is laid out for a load.
pub(super) struct AckArea {
    file: File,
    offset: u64,
    header: Header,
}

impl AckArea {
    /// Clears the area and writes its header, which makes it valid, last.
    pub(super) fn prepare(path: &Path, offset: u64, header: Header) -> Result<Self, LoadError> {
        header.check()?;
        let file = open_direct(path).map_err(LoadError::io("open the ack device", path))?;
        let size = size_of(&file).map_err(LoadError::io("measure the ack device", path))?;
        let end = offset.saturating_add(header.area());
        if end > size {
            return Err(LoadError::Spec {
                option: "ack.device",
                value: format!("{} with {size} bytes", path.display()),
                want: format!("this load's acks need at least {end}"),
            });
        }
        let area = Self {
            file,
            offset,
            header,
        };
        area.lay_out()
            .map_err(LoadError::io("lay out the ack area on", path))?;
        Ok(area)
    }

    fn lay_out(&self) -> io::Result<()> {
        const PIECE: usize = 64 << 10;
        static ZEROS: Aligned<PIECE> = Aligned([0; PIECE]);
        let mut at = 0;
        while at < self.header.area() {
            let left = usize::try_from(self.header.area() - at).unwrap_or(PIECE);
            let piece = &ZEROS.0[..left.min(PIECE)];
            self.file.write_all_at(piece, self.offset + at)?;
            at += u64::try_from(piece.len()).unwrap_or(ALIGN);
        }
        for thread in 0..self.header.threads {
            self.thread(thread, 1, false, Counters::default())?;
        }
        self.write(0, self.header.encode())
    }

    fn write(&self, at: u64, record: Bytes) -> io::Result<()> {
        self.file
            .write_all_at(&Aligned::<RECORD>(record).0, self.offset + at)
    }

    /// Notes that a block is durable.
    pub(super) fn block(&self, mut ack: BlockAck) -> io::Result<()> {
        ack.run = self.header.run;
        let at = self.header.block_at(ack.tag.block, ack.tag.seq);
        self.write(at, ack.encode())
    }

    /// Notes a thread's counters; `serial` counts this thread's records from 1.
    pub(super) fn thread(
        &self,
        thread: u32,
        serial: u64,
        ended: bool,
        counters: Counters,
    ) -> io::Result<()> {
        let ack = ThreadAck {
            run: self.header.run,
            thread,
            serial,
            ended,
            counters,
        };
        self.write(self.header.thread_at(thread, serial), ack.encode())
    }
}
