// SPDX-License-Identifier: GPL-2.0-only

//! The memory that the device offers.

use core::ffi::CStr;

use crate::handle::{self, Errno, Virtio};

/// -EINVAL (include/uapi/asm-generic/errno-base.h).
const EINVAL: Errno = -22;

/// Guest-physical memory: whole pages, not empty, within the address space.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub size: u64,
}

impl Region {
    /// Reads the region from the device and checks it. What is wrong is logged.
    ///
    /// With SHMEM_REGION negotiated it is shared memory region 0, else the configuration
    /// space's start and size (virtio 1.4, pmem device, device configuration layout).
    pub fn read(virtio: Virtio) -> Result<Self, Errno> {
        let (start, size) = virtio.region().inspect_err(|_| {
            virtio.error(c"the device offers SHMEM_REGION but has no shared memory region 0");
        })?;
        if let Some(text) = fault(start, size, handle::page_size()) {
            virtio.bad_region(text, start, size);
            return Err(EINVAL);
        }
        Ok(Self { start, size })
    }
}

/// What is wrong with a region, if anything is; `page` is a power of two.
fn fault(start: u64, size: u64, page: u64) -> Option<&'static CStr> {
    if size == 0 {
        return Some(c"it is empty");
    }
    if (start | size) & page.wrapping_sub(1) != 0 {
        return Some(c"start and size must be multiples of the page size");
    }
    if start.checked_add(size).is_none() {
        return Some(c"it reaches beyond the end of the address space");
    }
    None
}
