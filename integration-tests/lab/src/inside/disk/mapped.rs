// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A file as a VMM has it: mapped, written through the mapping, and synced by one call or another.

use std::fs::File;
use std::io::{Error, Result as IoResult};
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use anyhow::{Context as _, Result};
use guest_agent::pattern::BLOCK;
use nix::sys::mman::{MapFlags, MsFlags, ProtFlags, mmap, msync, munmap};

/// A call that a VMM might take for a flush.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Call {
    /// fdatasync(2)
    Fdatasync,
    /// fsync(2)
    Fsync,
    /// msync(2) with MS_SYNC
    Msync,
    /// sync_file_range(2) with all three flags
    SyncFileRange,
}

/// All of them.
pub const CALLS: [Call; 4] = [
    Call::Fdatasync,
    Call::Fsync,
    Call::Msync,
    Call::SyncFileRange,
];

impl Call {
    /// As in its manual page.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fdatasync => "fdatasync",
            Self::Fsync => "fsync",
            Self::Msync => "msync",
            Self::SyncFileRange => "sync_file_range",
        }
    }

    /// sync_file_range hands the pages to the disk and leaves them in its cache.
    pub fn is_a_flush(self) -> bool {
        self != Self::SyncFileRange
    }
}

/// A shared mapping of a file, as a VMM has it.
pub struct Mapped {
    file: File,
    start: NonNull<libc::c_void>,
    bytes: NonZeroUsize,
}

impl Mapped {
    /// Maps the first `bytes` of a file.
    pub fn new(file: File, bytes: u64) -> Result<Self> {
        let bytes = NonZeroUsize::new(usize::try_from(bytes)?).context("no bytes")?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let start = unsafe { mmap(None, bytes, access, MapFlags::MAP_SHARED, &file, 0) }?;
        Ok(Self { file, start, bytes })
    }

    /// Overwrites a block through the mapping.
    pub fn store(&self, block: usize, bytes: &[u8; BLOCK]) {
        assert!((block + 1) * BLOCK <= self.bytes.get(), "block {block}");
        // SAFETY: the target lies within the mapping, see above, and nothing borrows that memory.
        unsafe {
            let target = self.start.as_ptr().byte_add(block * BLOCK).cast();
            bytes.as_ptr().copy_to_nonoverlapping(target, BLOCK);
        }
    }

    /// Makes what was stored durable, as far as the call does.
    pub fn sync(&self, call: Call) -> IoResult<()> {
        match call {
            Call::Fdatasync => self.file.sync_data(),
            Call::Fsync => self.file.sync_all(),
            // SAFETY: start and length are those of the mapping, which lives as long as `self`.
            Call::Msync => Ok(unsafe { msync(self.start, self.bytes.get(), MsFlags::MS_SYNC) }?),
            Call::SyncFileRange => {
                let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
                    | libc::SYNC_FILE_RANGE_WRITE
                    | libc::SYNC_FILE_RANGE_WAIT_AFTER;
                // SAFETY: no pointer; the descriptor is borrowed from a live file.
                match unsafe { libc::sync_file_range(self.file.as_raw_fd(), 0, 0, flags) } {
                    0 => Ok(()),
                    _ => Err(Error::last_os_error()),
                }
            }
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: start and length are those of the mapping; nothing points into it any more.
        // It can only fail for an address that is no mapping.
        let _ = unsafe { munmap(self.start, self.bytes.get()) };
    }
}
