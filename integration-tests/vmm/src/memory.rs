// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Guest RAM: one memfd, mapped shared, in one or two regions around the hole below
//! 4 GiB. A memfd knows which of its pages were ever touched (`SEEK_DATA`), so that a
//! snapshot's memory file can be as sparse.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::{
    Address, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    MemoryRegionAddress,
};

use crate::layout;
use crate::machine::Ram;
use crate::snapshot::RamRegion;
use crate::vm::VmError;

/// How many KVM memory slots guest RAM can take; slots of devices follow.
pub const RAM_SLOTS: u32 = 2;

/// The regions of `size` bytes of RAM: guest address and length.
pub fn regions(size: u64) -> Vec<(u64, u64)> {
    let low = size.min(layout::HOLE);
    let mut regions = vec![(0, low)];
    if size > low {
        regions.push((layout::HOLE_END, size - low));
    }
    regions
}

/// The first guest address at which persistent memory may be placed above `ram_size` bytes
/// of RAM: a multiple of [`layout::PMEM_WINDOW_ALIGN`].
pub fn pmem_window(ram_size: u64) -> u64 {
    regions(ram_size)
        .iter()
        .map(|(base, size)| base + size)
        .max()
        .unwrap_or(0)
        .max(layout::HOLE_END)
        .next_multiple_of(layout::PMEM_WINDOW_ALIGN)
}

/// Allocates `size` bytes of guest RAM, all zero.
///
/// # Errors
/// The host has no memory file or address space for it.
pub fn allocate(size: u64) -> Result<GuestMemoryMmap, VmError> {
    const NAME: &CStr = c"guest-ram";
    // SAFETY: the name is a valid C string and the call has no other memory argument.
    let fd = unsafe { libc::memfd_create(NAME.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(VmError::Host(
            "cannot create the guest's memory file",
            io::Error::last_os_error(),
        ));
    }
    // SAFETY: fd is a new descriptor that nobody else owns.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.set_len(size)
        .map_err(|e| VmError::Host("cannot size the guest's memory file", e))?;

    let mut ranges = Vec::new();
    let mut offset = 0;
    for (base, len) in regions(size) {
        let file = file
            .try_clone()
            .map_err(|e| VmError::Host("cannot duplicate a descriptor", e))?;
        let len_usize =
            usize::try_from(len).map_err(|_| VmError::Missing("so large an address space"))?;
        ranges.push((
            GuestAddress(base),
            len_usize,
            Some(FileOffset::new(file, offset)),
        ));
        offset += len;
    }
    Ok(GuestMemoryMmap::from_ranges_with_files(ranges)?)
}

/// Gives guest RAM to KVM, in slots from 0 on.
///
/// # Errors
/// KVM refused a slot.
pub fn register(vm: &VmFd, ram: &GuestMemoryMmap) -> Result<(), VmError> {
    for (slot, region) in (0..RAM_SLOTS).zip(ram.iter()) {
        let host = region
            .get_host_address(MemoryRegionAddress(0))
            .map_err(|e| VmError::Memory("a memory slot", e))?;
        let slot = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: region.start_addr().raw_value(),
            memory_size: region.len(),
            userspace_addr: host as u64,
        };
        // SAFETY: the mapping belongs to `ram`, which the machine keeps until the
        // KVM machine is gone.
        unsafe { vm.set_user_memory_region(slot) }
            .map_err(|e| VmError::Kvm("KVM_SET_USER_MEMORY_REGION", e))?;
    }
    Ok(())
}

/// Guest RAM as the snapshot's writer and reader see it: its file and what is where.
///
/// # Errors
/// The file's descriptor cannot be duplicated.
pub fn as_file(ram: &GuestMemoryMmap) -> io::Result<Ram> {
    let mut file = None;
    let mut regions = Vec::new();
    for region in ram.iter() {
        let place = region
            .file_offset()
            .ok_or_else(|| io::Error::other("guest memory has no file"))?;
        if file.is_none() {
            file = Some(place.file().try_clone()?);
        }
        regions.push(RamRegion {
            guest_base: region.start_addr().raw_value(),
            size: region.len(),
            offset: place.start(),
        });
    }
    let file = file.ok_or_else(|| io::Error::other("there is no guest memory"))?;
    Ok(Ram { file, regions })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use vm_memory::Bytes;

    use super::*;

    #[test]
    fn small_ram_is_one_region_from_zero() {
        assert_eq!(regions(512 << 20), [(0, 512 << 20)]);
    }

    #[test]
    fn ram_leaves_the_hole_below_4_gib_free() {
        assert_eq!(
            regions(4 << 30),
            [(0, layout::HOLE), (1 << 32, (4 << 30) - layout::HOLE)]
        );
    }

    #[test]
    fn pmem_starts_above_ram_and_above_4_gib() {
        assert_eq!(pmem_window(512 << 20), 1 << 32);
        let end = (1 << 32) + (5 << 30) + (2 << 20) - layout::HOLE;
        let window = pmem_window((5 << 30) + (2 << 20));
        assert!(window >= end && window < end + layout::PMEM_WINDOW_ALIGN);
        assert_eq!(window % layout::PMEM_WINDOW_ALIGN, 0);
    }

    #[test]
    fn ram_is_zero_and_shares_one_file() {
        let ram = allocate(8 << 20).unwrap();
        assert_eq!(ram.read_obj::<u64>(GuestAddress(0x1000)).unwrap(), 0);
        ram.write_obj(7u8, GuestAddress(4096)).unwrap();
        let region = ram.iter().next().unwrap();
        let mut byte = [0];
        let file = region.file_offset().unwrap().file();
        file.read_exact_at(&mut byte, 4096).unwrap();
        assert_eq!(byte, [7]);
    }
}
