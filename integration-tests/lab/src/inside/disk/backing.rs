// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A filesystem of the host side, with the pmem files on it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{FallocateFlags, fallocate};

use crate::inside::cleanup::WORK;
use crate::inside::command::{ask, run};
use crate::inside::disk::{Mapping, Piece, Scratch, Table};

/// The filesystem below a pmem file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HostFs {
    /// ext4 as mkfs makes it.
    Ext4,
    /// ext4 without a journal.
    Ext4NoJournal,
    /// XFS.
    Xfs,
    /// btrfs, as mkfs makes it.
    Btrfs,
}

impl HostFs {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Ext4NoJournal => "ext4-no-journal",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The smallest piece of disk it is made on here, in bytes; XFS refuses
    /// less than 300 MiB.
    pub fn smallest(self) -> u64 {
        match self {
            Self::Xfs => 320 << 20,
            Self::Btrfs => 256 << 20,
            _ => 64 << 20,
        }
    }

    /// How a copy of it is mounted from an image.
    pub fn copy_options(self) -> &'static str {
        match self {
            // It knows its original by the same name.
            Self::Xfs => "loop,nouuid",
            _ => "loop",
        }
    }

    /// Lets the kernel forget unmounted ones: btrfs remembers where it has seen one, and takes an
    /// older copy of it for a mistake.
    pub fn forget(self) -> Result<()> {
        match self {
            Self::Btrfs => run("btrfs", &["device", "scan", "--forget"]).map(drop),
            _ => Ok(()),
        }
    }

    /// Makes it on a device.
    pub fn make(self, device: &str) -> Result<()> {
        let arguments: &[&str] = match self {
            Self::Ext4 => &["-q", "-F", "-b", "4096", "-E", "nodiscard", device],
            Self::Ext4NoJournal => &[
                "-q",
                "-F",
                "-b",
                "4096",
                "-E",
                "nodiscard",
                "-O",
                "^has_journal",
                device,
            ],
            Self::Xfs => &["-q", "-f", "-K", device],
            Self::Btrfs => &["-q", "-f", "-K", device],
        };
        let tool = match self {
            Self::Xfs => "mkfs.xfs",
            Self::Btrfs => "mkfs.btrfs",
            Self::Ext4 | Self::Ext4NoJournal => "mkfs.ext4",
        };
        run(tool, arguments).map(drop)
    }
}

/// Makes a file with its room reserved, but nothing written.
pub fn reserve(path: &Path, bytes: u64) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    fallocate(&file, FallocateFlags::empty(), 0, i64::try_from(bytes)?)
        .with_context(|| format!("cannot reserve {}", path.display()))?;
    Ok(file.sync_all()?)
}

/// A mounted filesystem on a disk that can be made slow or bad; dropping it
/// makes the disk good again, unmounts and removes it.
pub struct Backing {
    at: PathBuf,
    mapping: Mapping,
}

impl Backing {
    /// Makes a filesystem with room for `bytes` of files.
    pub fn new(scratch: &mut Scratch, name: &str, fs: HostFs, bytes: u64) -> Result<Self> {
        // A quarter more for the journal and the filesystem's own tables.
        let room = (bytes + bytes / 4 + (32 << 20)).max(fs.smallest());
        Self::on(scratch.cut(room)?, name, fs)
    }

    /// Makes a filesystem on a piece of disk.
    pub fn on(piece: Piece, name: &str, fs: HostFs) -> Result<Self> {
        let mapping = Mapping::new(name, piece, Table::Plain)?;
        fs.make(&mapping.path().display().to_string())?;
        let at = Path::new(WORK).join(name);
        fs::create_dir_all(&at)?;
        let backing = Self { at, mapping };
        backing.mount()?;
        Ok(backing)
    }

    fn mount(&self) -> Result<()> {
        let [device, at] = self.names();
        run("mount", &[&device, &at]).map(drop)
    }

    /// The disk's node and the mount point.
    fn names(&self) -> [String; 2] {
        [self.mapping.path(), &self.at].map(|path| path.display().to_string())
    }

    /// What an operator does after a failure, for ext4: unmount, check and mend, mount.
    /// Nobody has a file open. The page cache is gone after it.
    pub fn mended(&self) -> Result<()> {
        let [device, at] = self.names();
        run("umount", &[&at])?;
        let fsck = ask("e2fsck", &["-f", "-y", &device])?;
        // 1: errors were corrected.
        if fsck.code > 1 {
            bail!("e2fsck ended with code {}: {}", fsck.code, fsck.text.trim());
        }
        self.mount()
    }

    /// Lets an ext4 find an error in itself, on which it stops writing.
    pub fn turn_read_only(&self) -> Result<()> {
        let [_, at] = self.names();
        run("mount", &["-o", "remount,errors=remount-ro", &at])?;
        let node = self.mapping.path();
        let name = node.file_name().context("the disk has no name")?;
        let trigger = Path::new("/sys/fs/ext4")
            .join(name)
            .join("trigger_fs_error");
        fs::write(trigger, "1")?;
        if !self.is_read_only()? {
            bail!("the run does not count: the filesystem still takes writes");
        }
        Ok(())
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// The disk that can be made slow or bad.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Makes a file whose blocks are all written, so that a guest's write to
    /// it needs no room and a sync of it no journal.
    pub fn written_file(&self, name: &str, bytes: u64) -> Result<PathBuf> {
        let path = self.at.join(name);
        let mut file = File::create(&path)?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..bytes.div_ceil(1 << 20) {
            file.write_all(&zeros)
                .with_context(|| format!("cannot fill {}", path.display()))?;
        }
        file.set_len(bytes)?;
        file.sync_all()?;
        Ok(path)
    }

    /// Makes a file with its room reserved, but nothing written.
    pub fn reserved_file(&self, name: &str, bytes: u64) -> Result<PathBuf> {
        let path = self.at.join(name);
        reserve(&path, bytes)?;
        Ok(path)
    }

    /// Changes how the disk behaves.
    pub fn disk(&self, table: Table) -> Result<()> {
        self.mapping.set(table)
    }

    /// The piece of disk it is made on.
    pub fn piece(&self) -> &Piece {
        self.mapping.piece()
    }

    /// True if the filesystem has turned itself read-only after an error.
    pub fn is_read_only(&self) -> Result<bool> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let at = self.at.display().to_string();
        let line = mounts
            .lines()
            .find(|line| line.split(' ').nth(1) == Some(&at));
        let options = line
            .and_then(|line| line.split(' ').nth(3))
            .unwrap_or_default();
        let said = options
            .split(',')
            .any(|option| option == "ro" || option == "emergency_ro");
        // ext4 without a journal, and XFS after a shutdown, refuse without saying "ro".
        let probe = self.at.join(".probe");
        let refused = File::create(&probe)
            .and_then(|file| file.sync_all())
            .is_err();
        let _ = fs::remove_file(&probe);
        Ok(said || refused)
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        let _ = self.mapping.set(Table::Plain);
        let _ = ask("umount", &[&self.at.display().to_string()]);
    }
}

/// A guest's filesystem, read from the host side: its image, mounted read-only
/// through a loop device. Dropping it unmounts.
pub struct ReadOnly {
    at: PathBuf,
}

impl ReadOnly {
    /// Mounts `image`, or a copy of it: a filesystem that was in use has a
    /// journal to replay, and the image itself is never written.
    pub fn mount(image: &Path, in_use: bool) -> Result<Self> {
        let at = Path::new(WORK).join("readback");
        fs::create_dir_all(&at)?;
        let target = at.display().to_string();
        if in_use {
            let copy = image.with_extension("copy");
            let names = [image, &copy].map(|path| path.display().to_string());
            run(
                "cp",
                &["--sparse=always", "--reflink=auto", &names[0], &names[1]],
            )?;
            run("mount", &["-o", "loop", &names[1], &target])?;
            // The loop device holds it as long as it is needed.
            fs::remove_file(&copy)?;
        } else {
            run(
                "mount",
                &["-o", "loop,ro", &image.display().to_string(), &target],
            )?;
        }
        Ok(Self { at })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = ask("umount", &["--detach-loop", &self.at.display().to_string()]);
    }
}
