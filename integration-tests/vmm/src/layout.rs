// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Where everything is in the guest's physical address space and in its I/O ports.
//!
//! Below 1 MiB the places are those of the 64-bit Linux boot protocol
//! (Documentation/arch/x86/boot.rst); the hole below 4 GiB holds device registers
//! and the interrupt controllers; persistent memory follows RAM.

/// 2 MiB: what a persistent memory device's base and size are multiples of, so that
/// the guest's libnvdimm can map it with huge pages and hot-add it.
pub const PMEM_ALIGN: u64 = 2 << 20;

/// Where the persistent memory window may start: memory sections of the guest are
/// 128 MiB, and RAM and persistent memory must not meet in one.
pub const PMEM_WINDOW_ALIGN: u64 = 128 << 20;

/// The boot GDT.
pub const GDT: u64 = 0x500;
/// `struct boot_params`.
pub const ZERO_PAGE: u64 = 0x7000;
/// The boot page tables: PML4, PDPT and four page directories.
pub const PAGE_TABLES: u64 = 0x9000;
/// The kernel's command line.
pub const CMDLINE: u64 = 0x2_0000;
/// What the command line may take, with its final zero byte.
pub const CMDLINE_MAX: usize = 0x1_0000;
/// The end of low RAM that the guest may use.
pub const LOW_RAM_END: u64 = 0x9_fc00;
/// The ACPI tables; the RSDP is found by a search from here too.
pub const ACPI: u64 = 0xe_0000;
/// The end of the ACPI tables' space.
pub const ACPI_END: u64 = 0x10_0000;
/// Where the kernel's protected-mode part is loaded.
pub const KERNEL: u64 = 0x10_0000;

/// The hole below 4 GiB.
pub const HOLE: u64 = 0xc000_0000;
/// The end of the hole.
pub const HOLE_END: u64 = 1 << 32;

/// The first virtio-mmio register window.
pub const VIRTIO_MMIO: u64 = 0xd000_0000;
/// How far the register windows lie apart; each is this large.
pub const VIRTIO_MMIO_STRIDE: u64 = 0x1000;
/// How many virtio-mmio devices there can be: the IOAPIC's pins above the ISA ones.
pub const VIRTIO_MMIO_MAX: usize = 8;
/// The first virtio-mmio device's interrupt.
pub const VIRTIO_MMIO_GSI: u32 = 16;

/// The IOAPIC's registers (KVM's choice).
pub const IOAPIC: u32 = 0xfec0_0000;
/// The local APIC's registers (reset value of the APIC base).
pub const LAPIC: u32 = 0xfee0_0000;
/// Three pages KVM needs for real mode on Intel.
pub const KVM_TSS: usize = 0xfffb_d000;
/// One page KVM needs for real mode on Intel.
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;

/// ttyS0.
pub const SERIAL_PORT: u16 = 0x3f8;
/// ttyS0's ports.
pub const SERIAL_PORTS: u16 = 8;
/// ttyS0's interrupt.
pub const SERIAL_GSI: u32 = 4;
/// The keyboard controller's command port; a pulse on its reset line resets the machine.
pub const I8042_COMMAND: u16 = 0x64;
/// The ACPI power management registers.
pub const PM_PORT: u16 = 0x600;
/// The ACPI interrupt.
pub const SCI_GSI: u32 = 9;
/// The keyboard controller's command to pulse the reset line.
pub const I8042_RESET: u8 = 0xfe;
