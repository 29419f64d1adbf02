// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Puts a Linux kernel, its initramfs, its command line and its boot parameters into guest
//! RAM, after the 64-bit boot protocol (Documentation/arch/x86/boot.rst).

mod e820;
mod initramfs;
mod kernel;

use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::bootparam::{boot_params, setup_header};
use linux_loader::loader::{Cmdline, load_cmdline};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::config::PayloadConfig;
use crate::layout;
use crate::vm::VmError;

/// The kernel's 64-bit entry point, from where it was loaded.
const ENTRY_64: u64 = 0x200;
/// A boot loader without an assigned number.
const LOADER_UNDEFINED: u8 = 0xff;

/// Loads everything; returns the address the boot processor starts at.
///
/// # Errors
/// A file cannot be read, is no kernel, or RAM is too small for it; the command line is
/// too long or not ASCII.
pub fn load(
    payload: &PayloadConfig,
    ram: &GuestMemoryMmap,
    ram_size: u64,
    rsdp: u64,
) -> Result<u64, VmError> {
    let kernel = kernel::load(&payload.kernel, ram, ram_size)?;
    let initramfs = payload
        .initramfs
        .as_deref()
        .map(|path| initramfs::load(path, ram, ram_size, &kernel))
        .transpose()?;
    let cmdline_len = write_cmdline(
        payload.cmdline.as_deref().unwrap_or(""),
        ram,
        &kernel.header,
    )?;

    let mut params = boot_params {
        hdr: kernel.header,
        acpi_rsdp_addr: rsdp,
        ..Default::default()
    };
    params.hdr.type_of_loader = LOADER_UNDEFINED;
    params.hdr.cmd_line_ptr = low_address(layout::CMDLINE)?;
    params.hdr.cmdline_size = cmdline_len;
    if let Some(range) = initramfs {
        params.hdr.ramdisk_image = low_address(range.start)?;
        params.hdr.ramdisk_size = low_address(range.end - range.start)?;
    }
    let map = e820::map(ram_size);
    for (slot, entry) in params.e820_table.iter_mut().zip(&map) {
        *slot = *entry;
    }
    params.e820_entries = u8::try_from(map.len()).unwrap_or(u8::MAX);

    LinuxBootConfigurator::write_bootparams(
        &BootParams::new(&params, GuestAddress(layout::ZERO_PAGE)),
        ram,
    )?;
    Ok(kernel.load + ENTRY_64)
}

/// Writes the command line; returns its length without the final zero byte.
fn write_cmdline(text: &str, ram: &GuestMemoryMmap, header: &setup_header) -> Result<u32, VmError> {
    let limit = usize::try_from(header.cmdline_size)
        .unwrap_or(usize::MAX)
        .min(layout::CMDLINE_MAX - 1);
    let error = |source| VmError::Cmdline { limit, source };
    let cmdline = Cmdline::try_from(text, limit + 1).map_err(error)?;
    load_cmdline(ram, GuestAddress(layout::CMDLINE), &cmdline).map_err(VmError::CmdlineLoad)?;
    let bytes = cmdline.as_cstring().map_err(error)?.as_bytes().len();
    Ok(u32::try_from(bytes).unwrap_or(u32::MAX))
}

/// An address or size that the boot parameters hold in 32 bits.
fn low_address(value: u64) -> Result<u32, VmError> {
    u32::try_from(value).map_err(|_| VmError::State(format!("{value:#x} is not below 4 GiB")))
}
