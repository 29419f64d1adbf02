// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The FADT: where the fixed power management registers are and what this PC lacks.

use acpi_tables::fadt::{FADT, FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};

use super::{OEM, OEM_REVISION, OEM_TABLE};
use crate::devices::pm;
use crate::layout;
use crate::vm::VmError;

/// IAPC_BOOT_ARCH: no VGA, no MSI, no PCIe ASPM, no CMOS clock; and no bit for a keyboard
/// controller, though its reset line works.
const BOOT_ARCH: u16 = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5;

/// The table. The sleep and power buttons: only the latter, as a fixed event.
///
/// # Errors
/// An address does not fit into 32 bits.
pub fn fadt(dsdt: u64, facs: u64) -> Result<FADT, VmError> {
    let low = |address: u64| {
        u32::try_from(address).map_err(|_| VmError::AcpiTooLarge(0, layout::ACPI_END))
    };
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .dsdt_32(low(dsdt)?)
        .firmware_ctrl_32(low(facs)?)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc)
        .flag(Flags::ResetRegSup);
    fadt.iapc_boot_arch = BOOT_ARCH.into();
    // Linux takes the interrupt for level-triggered, which it is.
    fadt.sci_int = u16::try_from(layout::SCI_GSI)
        .map_err(|_| VmError::Missing("a 16-bit ACPI interrupt"))?
        .into();
    // No SMI command port: the machine is in ACPI mode from the start.
    fadt.pm1a_evt_blk = u32::from(layout::PM_PORT + pm::EVENT_BLOCK).into();
    fadt.pm1_evt_len = pm::EVENT_BLOCK_LEN;
    fadt.pm1a_cnt_blk = u32::from(layout::PM_PORT + pm::CONTROL).into();
    fadt.pm1_cnt_len = pm::CONTROL_LEN;
    // Longer than 100 and 1000 µs: there is no C2 and no C3.
    fadt.p_lvl2_lat = 0xfff.into();
    fadt.p_lvl3_lat = 0xfff.into();
    fadt.reset_reg = GAS::new(
        AddressSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        u64::from(layout::PM_PORT + pm::RESET),
    );
    fadt.reset_value = pm::RESET_VALUE;
    Ok(fadt.finalize())
}
