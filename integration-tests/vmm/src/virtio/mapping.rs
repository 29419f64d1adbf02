// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A pmem device's file, mapped into our address space for a KVM memory slot.

use std::fs::{File, OpenOptions};
use std::io;
use std::sync::Arc;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use pmem_flush::{FileLock, LockKind, PrivateMapping};
use vm_memory::{FileOffset, MmapRegion};

use crate::config::PmemConfig;
use crate::layout::PMEM_ALIGN;
use crate::vm::VmError;

/// The open, locked and mapped file. The lock goes before the mapping: nothing is written
/// through it once the vCPUs are gone, and a hung disk may hold up the unmapping.
pub struct Mapping {
    _lock: FileLock,
    file: Arc<File>,
    memory: Arc<MmapRegion>,
}

impl Mapping {
    /// Opens, locks and maps the file of `config`.
    ///
    /// # Errors
    /// It cannot be opened or mapped, is locked, is no regular file, or is not as large as
    /// a device has to be.
    pub fn open(config: &PmemConfig) -> Result<Self, VmError> {
        let error = |what: &str, source: Option<io::Error>| VmError::PmemFile {
            id: config.id.clone(),
            file: config.file.clone(),
            what: what.into(),
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(!config.discard_writes)
            .open(&config.file)
            .map_err(|e| error("cannot be opened", Some(e)))?;
        let metadata = file
            .metadata()
            .map_err(|e| error("its size cannot be read", Some(e)))?;
        if !metadata.is_file() {
            return Err(error("it has to be a regular file", None));
        }
        let has = metadata.len();
        let size = config.size.unwrap_or(has);
        if size == 0 || !size.is_multiple_of(PMEM_ALIGN) {
            let what = format!("a device of {size} bytes; it has to be a multiple of 2 MiB");
            return Err(error(&what, None));
        }
        if has < size {
            let what =
                format!("the file has {has} bytes, the device {size}: the file is too small");
            return Err(error(&what, None));
        }
        let kind = if config.discard_writes {
            LockKind::Shared
        } else {
            LockKind::Exclusive
        };
        let lock = FileLock::acquire(&file, kind).map_err(|e| error(&e.to_string(), None))?;
        let len =
            usize::try_from(size).map_err(|_| error("it is too large for this host", None))?;
        let (visibility, what) = if config.discard_writes {
            (libc::MAP_PRIVATE, "cannot be mapped privately")
        } else {
            (libc::MAP_SHARED, "cannot be mapped")
        };
        let file = Arc::new(file);
        let memory = MmapRegion::build(
            Some(FileOffset::from_arc(file.clone(), 0)),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            visibility | libc::MAP_NORESERVE,
        )
        .map_err(|e| error(what, Some(io::Error::other(e))))?;
        Ok(Self {
            _lock: lock,
            file,
            memory: Arc::new(memory),
        })
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Bytes mapped: the device's size.
    pub fn size(&self) -> u64 {
        self.memory.size() as u64
    }

    /// Where the guest's writes are with `discard_writes=on`.
    pub fn private(&self) -> PrivateMapping {
        PrivateMapping {
            memory: self.memory.clone(),
            file: self.file.clone(),
        }
    }

    /// Gives the mapping to the guest at `base`, as memory slot `slot`.
    ///
    /// # Errors
    /// KVM refused.
    pub fn register(&self, vm: &VmFd, slot: u32, base: u64) -> Result<(), VmError> {
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: base,
            memory_size: self.size(),
            userspace_addr: self.memory.as_ptr() as u64,
        };
        // SAFETY: the range is mapped until the mapping drops; from then on KVM finds
        // nothing there.
        unsafe { vm.set_user_memory_region(region) }
            .map_err(|e| VmError::Kvm("KVM_SET_USER_MEMORY_REGION", e))
    }
}
