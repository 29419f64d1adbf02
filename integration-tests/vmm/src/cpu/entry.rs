// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! How a vCPU starts: the boot processor in 64-bit mode at the kernel's entry point, as
//! the boot protocol wants it (Documentation/arch/x86/boot.rst, "64-bit boot protocol");
//! the others wait for the kernel's start-up interrupt.

use kvm_bindings::{Msrs, kvm_dtable, kvm_msr_entry, kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::layout;
use crate::vm::VmError;

/// Selectors that the boot protocol fixes.
const CODE_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;
const TASK_SELECTOR: u16 = 0x20;

const CR0_PROTECTED: u64 = 1;
const CR0_EXTENSION_TYPE: u64 = 1 << 4;
const CR0_NUMERIC_ERROR: u64 = 1 << 5;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
const EFER_LONG_MODE_ENABLE: u64 = 1 << 8;
const EFER_LONG_MODE_ACTIVE: u64 = 1 << 10;

const PAGE_PRESENT_WRITABLE: u64 = 3;
const PAGE_LARGE: u64 = 1 << 7;
const PAGE_SIZE: u64 = 0x1000;

/// How many page directories there are: each maps 1 GiB.
const PAGE_DIRECTORIES: u64 = 4;

const MSR_MISC_ENABLE: u32 = 0x1a0;
const MSR_MTRR_DEF_TYPE: u32 = 0x2ff;

/// Writes the boot GDT and page tables (the first 4 GiB, mapped one to one).
///
/// # Errors
/// RAM ends below them.
pub fn write_boot_tables(ram: &GuestMemoryMmap) -> Result<(), VmError> {
    let memory = |e| VmError::Memory("the boot page tables", e);
    let gdt = [
        0,
        0,
        descriptor(&code_segment()),
        descriptor(&data_segment()),
        descriptor(&task_segment()),
    ];
    for (entry, offset) in gdt.iter().zip((0..).step_by(8)) {
        ram.write_obj(*entry, GuestAddress(layout::GDT + offset))
            .map_err(|e| VmError::Memory("the boot GDT", e))?;
    }

    let pdpt = layout::PAGE_TABLES + PAGE_SIZE;
    ram.write_obj(
        pdpt | PAGE_PRESENT_WRITABLE,
        GuestAddress(layout::PAGE_TABLES),
    )
    .map_err(memory)?;
    for directory in 0..PAGE_DIRECTORIES {
        let table = pdpt + (1 + directory) * PAGE_SIZE;
        ram.write_obj(
            table | PAGE_PRESENT_WRITABLE,
            GuestAddress(pdpt + directory * 8),
        )
        .map_err(memory)?;
        for entry in 0..512 {
            let target = (directory << 30) + (entry << 21);
            ram.write_obj(
                target | PAGE_LARGE | PAGE_PRESENT_WRITABLE,
                GuestAddress(table + entry * 8),
            )
            .map_err(memory)?;
        }
    }
    Ok(())
}

/// Sets vCPU 0 to enter the kernel at `entry` with `struct boot_params` in RSI.
///
/// # Errors
/// KVM refused.
pub fn prepare_boot_processor(fd: &VcpuFd, entry: u64) -> Result<(), VmError> {
    set_boot_msrs(fd, 0)?;
    let mut sregs = fd
        .get_sregs()
        .map_err(|e| VmError::Vcpu(0, "KVM_GET_SREGS", e))?;
    sregs.gdt = kvm_dtable {
        base: layout::GDT,
        limit: 5 * 8 - 1,
        ..Default::default()
    };
    sregs.idt = kvm_dtable::default();
    sregs.cs = code_segment();
    let data = data_segment();
    sregs.ds = data;
    sregs.es = data;
    sregs.fs = data;
    sregs.gs = data;
    sregs.ss = data;
    sregs.tr = task_segment();
    sregs.cr0 = CR0_PROTECTED | CR0_EXTENSION_TYPE | CR0_NUMERIC_ERROR | CR0_PAGING;
    sregs.cr3 = layout::PAGE_TABLES;
    sregs.cr4 = CR4_PHYSICAL_ADDRESS_EXTENSION;
    sregs.efer = EFER_LONG_MODE_ENABLE | EFER_LONG_MODE_ACTIVE;
    fd.set_sregs(&sregs)
        .map_err(|e| VmError::Vcpu(0, "KVM_SET_SREGS", e))?;
    let regs = kvm_regs {
        rip: entry,
        rsi: layout::ZERO_PAGE,
        rsp: layout::ZERO_PAGE,
        // Bit 1 is always set.
        rflags: 2,
        ..Default::default()
    };
    fd.set_regs(&regs)
        .map_err(|e| VmError::Vcpu(0, "KVM_SET_REGS", e))
}

/// Sets up vCPU `id` > 0; it waits for its start-up interrupt.
///
/// # Errors
/// KVM refused.
pub fn prepare_application_processor(fd: &VcpuFd, id: u8) -> Result<(), VmError> {
    set_boot_msrs(fd, id)
}

/// What firmware leaves behind: fast string operations, and write-back memory.
fn set_boot_msrs(fd: &VcpuFd, id: u8) -> Result<(), VmError> {
    let entry = |index, data| kvm_msr_entry {
        index,
        data,
        ..Default::default()
    };
    let msrs = [
        entry(MSR_MISC_ENABLE, 1),
        entry(MSR_MTRR_DEF_TYPE, 1 << 11 | 6),
    ];
    let list = Msrs::from_entries(&msrs).map_err(|_| VmError::Missing("room for the boot MSRs"))?;
    let set = fd
        .set_msrs(&list)
        .map_err(|e| VmError::Vcpu(id, "KVM_SET_MSRS", e))?;
    if set == msrs.len() {
        Ok(())
    } else {
        Err(VmError::Missing("MSR that firmware sets at boot"))
    }
}

fn code_segment() -> kvm_segment {
    kvm_segment {
        limit: 0xffff_ffff,
        selector: CODE_SELECTOR,
        // Execute, read, accessed.
        type_: 0xb,
        present: 1,
        s: 1,
        l: 1,
        g: 1,
        ..Default::default()
    }
}

fn data_segment() -> kvm_segment {
    kvm_segment {
        limit: 0xffff_ffff,
        selector: DATA_SELECTOR,
        // Read, write, accessed.
        type_: 0x3,
        present: 1,
        s: 1,
        db: 1,
        g: 1,
        ..Default::default()
    }
}

fn task_segment() -> kvm_segment {
    kvm_segment {
        limit: 0xffff_ffff,
        selector: TASK_SELECTOR,
        // A busy 64-bit task.
        type_: 0xb,
        present: 1,
        g: 1,
        ..Default::default()
    }
}

/// The 8-byte descriptor of a segment (Intel SDM volume 3, 3.4.5).
fn descriptor(segment: &kvm_segment) -> u64 {
    let limit = u64::from(if segment.g == 1 {
        segment.limit >> 12
    } else {
        segment.limit
    });
    let base = segment.base;
    (limit & 0xffff)
        | (base & 0x00ff_ffff) << 16
        | u64::from(segment.type_) << 40
        | u64::from(segment.s) << 44
        | u64::from(segment.dpl) << 45
        | u64::from(segment.present) << 47
        | (limit >> 16 & 0xf) << 48
        | u64::from(segment.avl) << 52
        | u64::from(segment.l) << 53
        | u64::from(segment.db) << 54
        | u64::from(segment.g) << 55
        | (base >> 24 & 0xff) << 56
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_descriptors_are_flat_64_bit() {
        assert_eq!(descriptor(&code_segment()), 0x00af_9b00_0000_ffff);
        assert_eq!(descriptor(&data_segment()), 0x00cf_9300_0000_ffff);
    }

    #[test]
    fn boot_page_tables_map_one_to_one() {
        let ram = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        write_boot_tables(&ram).unwrap();
        let read = |addr| ram.read_obj::<u64>(GuestAddress(addr)).unwrap();
        let table = |entry: u64| entry & !0xfff;
        for address in [0, 0x10_0000, 0x4000_0000, 0xfec0_0000u64] {
            let pdpt = table(read(layout::PAGE_TABLES));
            let directory = table(read(pdpt + (address >> 30) * 8));
            let page = read(directory + (address >> 21 & 511) * 8);
            assert_eq!(page & !0x1f_ffff, address & !0x1f_ffff);
            assert_eq!(page & 0xfff, 0x83);
        }
    }

    #[test]
    fn boot_tables_need_low_ram() {
        let ram = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        assert!(write_boot_tables(&ram).is_err());
    }
}
