// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The initramfs: any file, placed as high as the kernel can take it.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::kernel::Kernel;
use crate::memory;
use crate::vm::VmError;

const PAGE: u64 = 0x1000;

/// Loads the initramfs `path`; returns where it is.
///
/// # Errors
/// It cannot be read or does not fit between the kernel and the end of low RAM.
pub fn load(
    path: &Path,
    ram: &GuestMemoryMmap,
    ram_size: u64,
    kernel: &Kernel,
) -> Result<Range<u64>, VmError> {
    let flag = "--initramfs";
    let unreadable = |source| VmError::PayloadFile {
        flag,
        path: path.into(),
        source,
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    let limit = memory::regions(ram_size)[0]
        .1
        .min(u64::from(kernel.header.initrd_addr_max) + 1);
    let start = place(size, kernel.end, limit).ok_or_else(|| VmError::PayloadTooLarge {
        flag,
        path: path.into(),
        needed: kernel.end.saturating_add(size),
        limit,
    })?;
    let len = usize::try_from(size).unwrap_or(usize::MAX);
    ram.read_exact_volatile_from(GuestAddress(start), &mut file, len)
        .map_err(|e| VmError::Memory("the initramfs", e))?;
    Ok(start..start + size)
}

/// The highest page-aligned start for `size` bytes in `from..limit`.
fn place(size: u64, from: u64, limit: u64) -> Option<u64> {
    let start = limit.checked_sub(size)? & !(PAGE - 1);
    (start >= from).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initramfs_lies_below_the_limit_and_above_the_kernel() {
        assert_eq!(place(0x1001, 0x10_0000, 0x80_0000), Some(0x7f_e000));
        assert_eq!(place(0x70_0000, 0x10_0000, 0x80_0000), Some(0x10_0000));
        assert_eq!(place(0x70_0001, 0x10_0000, 0x80_0000), None);
        assert_eq!(place(0x80_0001, 0, 0x80_0000), None);
    }
}
