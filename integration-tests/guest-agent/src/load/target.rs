// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Where a thread writes its blocks, and how it makes them durable.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr::NonNull;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MsFlags, ProtFlags, mmap, msync, munmap};
use nix::unistd::{fdatasync, fsync};

use crate::load::acks::open_direct;
use crate::load::{BLOCK_BYTES, LoadError, size_of};
use crate::pattern::{BLOCK, Block};
use crate::verify::file_name;
use crate::wire::{LoadKind, LoadSpec, SyncCall};

/// One thread's place.
pub(super) enum Target {
    /// Blocks from `first` on, by pwrite.
    Write {
        file: File,
        first: u64,
        sync: SyncCall,
    },
    /// A shared mapping of the whole file.
    Map(Mapping),
}

impl Target {
    /// The thread's region of a block device.
    pub(super) fn raw(path: &Path, spec: &LoadSpec, thread: u32) -> Result<Self, LoadError> {
        let file = open_direct(path).map_err(LoadError::io("open", path))?;
        let size = size_of(&file).map_err(LoadError::io("measure", path))?;
        let blocks = u64::from(spec.threads) * spec.blocks_per_thread;
        let end = blocks
            .checked_add(spec.first_block)
            .and_then(|blocks| blocks.checked_mul(BLOCK_BYTES));
        if end.is_none_or(|end| end > size) {
            return Err(LoadError::Spec {
                option: "blocks_per_thread",
                value: spec.blocks_per_thread.to_string(),
                want: format!(
                    "{} threads from block {} on must end within the {size} bytes of {}",
                    spec.threads,
                    spec.first_block,
                    path.display()
                ),
            });
        }
        Ok(Self::Write {
            file,
            first: spec.first_block + u64::from(thread) * spec.blocks_per_thread,
            sync: spec.sync,
        })
    }

    /// The thread's file, new, durable in its directory before the load starts.
    pub(super) fn file(spec: &LoadSpec, thread: u32) -> Result<Self, LoadError> {
        let (dir, append) = match &spec.kind {
            LoadKind::File { dir, append } => (dir, *append),
            LoadKind::Mmap { dir } => (dir, false),
            LoadKind::Raw { device } => {
                return Err(LoadError::Spec {
                    option: "kind",
                    value: device.clone(),
                    want: "a raw device has no files".to_owned(),
                });
            }
        };
        let dir = Path::new(dir);
        fs::create_dir_all(dir).map_err(LoadError::io("make the directory", dir))?;
        let path = dir.join(file_name(u64::from(thread)));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(LoadError::io("make", &path))?;
        if !append {
            let bytes = i64::try_from(spec.blocks_per_thread * BLOCK_BYTES).unwrap_or(i64::MAX);
            fallocate(&file, FallocateFlags::empty(), 0, bytes)
                .map_err(|errno| LoadError::io("allocate", &path)(errno.into()))?;
        }
        file.sync_all().map_err(LoadError::io("sync", &path))?;
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(LoadError::io("sync", dir))?;
        if matches!(spec.kind, LoadKind::Mmap { .. }) {
            let mapping =
                Mapping::new(&file, spec.blocks_per_thread).map_err(LoadError::io("map", &path))?;
            return Ok(Self::Map(mapping));
        }
        Ok(Self::Write {
            file,
            first: 0,
            sync: spec.sync,
        })
    }

    /// Writes one of the thread's blocks; `block` counts from 0 in its region.
    pub(super) fn write(&self, block: u64, bytes: &Block) -> io::Result<()> {
        match self {
            Self::Write { file, first, .. } => {
                file.write_all_at(bytes, (first + block) * BLOCK_BYTES)
            }
            Self::Map(mapping) => mapping.store(block, bytes),
        }
    }

    /// Makes all that was written durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self {
            Self::Write { file, sync, .. } => Ok(match sync {
                SyncCall::Fsync => fsync(file),
                SyncCall::Fdatasync => fdatasync(file),
            }?),
            Self::Map(mapping) => mapping.sync(),
        }
    }

    /// The name of the call that [`Target::sync`] makes.
    pub(super) fn sync_name(&self) -> &'static str {
        match self {
            Self::Write { sync, .. } => match sync {
                SyncCall::Fsync => "fsync",
                SyncCall::Fdatasync => "fdatasync",
            },
            Self::Map(_) => "msync",
        }
    }
}

/// A shared mapping of a whole file.
pub(super) struct Mapping {
    start: NonNull<libc::c_void>,
    bytes: usize,
    /// Holds the block that is stored next.
    source: File,
}

// SAFETY: the mapping belongs to this value alone and is reached only through its methods;
// a mapping may be used from any thread.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(file: &File, blocks: u64) -> io::Result<Self> {
        let bytes = usize::try_from(blocks)
            .ok()
            .and_then(|blocks| blocks.checked_mul(BLOCK))
            .and_then(NonZeroUsize::new)
            .ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let start = unsafe {
            mmap(
                None,
                bytes,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                file,
                0,
            )
        }?;
        let mut mapping = Self {
            start,
            bytes: bytes.get(),
            source: File::open("/dev/null")?,
        };
        mapping.source = File::from(memfd_create(c"block", MFdFlags::MFD_CLOEXEC)?);
        Ok(mapping)
    }

    /// Stores a block. The kernel does the copy, so that a page that cannot be mapped is an
    /// error (EFAULT) and not a SIGBUS, which would end process 1.
    fn store(&self, block: u64, bytes: &Block) -> io::Result<()> {
        self.source.write_all_at(bytes, 0)?;
        let at = usize::try_from(block)
            .ok()
            .and_then(|block| block.checked_mul(BLOCK))
            .filter(|at| at + BLOCK <= self.bytes)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let fd = self.source.as_raw_fd();
        // SAFETY: `at + BLOCK` lies within the mapping, see above; nothing borrows that memory.
        let copied = unsafe { libc::pread(fd, self.start.as_ptr().byte_add(at), BLOCK, 0) };
        match usize::try_from(copied) {
            Ok(BLOCK) => Ok(()),
            // A fault after the first bytes cuts the read short.
            Ok(_) => Err(io::Error::from_raw_os_error(libc::EFAULT)),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        // SAFETY: start and length are those of the mapping, which lives as long as `self`.
        Ok(unsafe { msync(self.start, self.bytes, MsFlags::MS_SYNC) }?)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: start and length are those of the mapping; nothing points into it any more.
        // It can only fail for an address that is no mapping.
        let _ = unsafe { munmap(self.start, self.bytes) };
    }
}
