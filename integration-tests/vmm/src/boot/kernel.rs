// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The kernel: a bzImage with a 64-bit entry point.

use std::fs::File;
use std::path::Path;

use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::{BzImage, KernelLoader};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::layout;
use crate::memory;
use crate::vm::VmError;

/// Bit of `xloadflags`: there is a 64-bit entry point.
const XLF_KERNEL_64: u16 = 1;

/// A kernel in guest RAM.
#[derive(Debug)]
pub struct Kernel {
    /// Where its protected-mode part starts.
    pub load: u64,
    /// The first byte the kernel does not need while it unpacks itself.
    pub end: u64,
    /// Its own header, for the boot parameters.
    pub header: setup_header,
}

/// Loads the bzImage `path`.
///
/// # Errors
/// It cannot be read, is no 64-bit bzImage, or does not fit into RAM.
pub fn load(path: &Path, ram: &GuestMemoryMmap, ram_size: u64) -> Result<Kernel, VmError> {
    let flag = "--kernel";
    let mut file = File::open(path).map_err(|source| VmError::PayloadFile {
        flag,
        path: path.into(),
        source,
    })?;
    let size = file
        .metadata()
        .map_err(|source| VmError::PayloadFile {
            flag,
            path: path.into(),
            source,
        })?
        .len();
    let limit = memory::regions(ram_size)[0].1;
    let too_large = |needed| VmError::PayloadTooLarge {
        flag,
        path: path.into(),
        needed,
        limit,
    };
    if layout::KERNEL + size > limit {
        return Err(too_large(layout::KERNEL + size));
    }

    let loaded = BzImage::load(
        ram,
        Some(GuestAddress(layout::KERNEL)),
        &mut file,
        Some(GuestAddress(layout::KERNEL)),
    )
    .map_err(|source| VmError::Kernel {
        path: path.into(),
        source,
    })?;
    let header = loaded.setup_header.unwrap_or_default();
    if header.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(VmError::KernelNot64(path.into()));
    }
    // The kernel moves to its preferred address and unpacks itself there, in this much.
    let pref_address = header.pref_address;
    let end = layout::KERNEL.max(pref_address) + u64::from(header.init_size);
    if end > limit {
        return Err(too_large(end));
    }
    Ok(Kernel {
        load: layout::KERNEL,
        end,
        header,
    })
}
