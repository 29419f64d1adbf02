// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The DSDT: the serial port, the virtio-mmio devices, and how to power off.

use acpi_tables::aml::{
    AmlStr, Device, EISAName, IO, Interrupt, Memory32Fixed, Name, Package, Path, ResourceTemplate,
    Scope,
};
use acpi_tables::sdt::Sdt;
use acpi_tables::{Aml, AmlSink};

use super::{MmioDevice, OEM, OEM_REVISION, OEM_TABLE};
use crate::layout;
use crate::vm::VmError;

/// The sleep type of S5, to be written with the sleep enable bit.
pub const SLEEP_TYPE_OFF: u8 = 5;

/// A revision with 64-bit integers.
const REVISION: u8 = 2;
const HEADER_LEN: u32 = 36;

/// The table.
///
/// # Errors
/// A register window is not below 4 GiB.
pub fn dsdt(serial: bool, devices: &[MmioDevice]) -> Result<Sdt, VmError> {
    let mut aml = Vec::new();
    Name::new(
        "_S5_".into(),
        &Package::new(vec![&SLEEP_TYPE_OFF, &SLEEP_TYPE_OFF, &0u8, &0u8]),
    )
    .to_aml_bytes(&mut aml);
    if serial {
        serial_port(&mut aml)?;
    }
    for (uid, device) in (0..).zip(devices) {
        virtio_mmio(&mut aml, uid, device)?;
    }
    let mut table = Sdt::new(*b"DSDT", HEADER_LEN, REVISION, OEM, OEM_TABLE, OEM_REVISION);
    table.append_slice(&aml);
    Ok(table)
}

fn serial_port(aml: &mut dyn AmlSink) -> Result<(), VmError> {
    let ports =
        u8::try_from(layout::SERIAL_PORTS).map_err(|_| VmError::Missing("so many serial ports"))?;
    Scope::new(
        Path::new("_SB_"),
        vec![&Device::new(
            Path::new("COM1"),
            vec![
                &Name::new("_HID".into(), &EISAName::new("PNP0501")),
                &Name::new("_UID".into(), &0u8),
                &Name::new(
                    "_CRS".into(),
                    &ResourceTemplate::new(vec![
                        &IO::new(layout::SERIAL_PORT, layout::SERIAL_PORT, 1, ports),
                        &Interrupt::new(true, true, false, false, layout::SERIAL_GSI),
                    ]),
                ),
            ],
        )],
    )
    .to_aml_bytes(aml);
    Ok(())
}

/// The id is the one Linux' virtio_mmio driver takes (drivers/virtio/virtio_mmio.c).
fn virtio_mmio(aml: &mut dyn AmlSink, uid: u8, device: &MmioDevice) -> Result<(), VmError> {
    let low = |value: u64| {
        u32::try_from(value).map_err(|_| VmError::Missing("a register window below 4 GiB"))
    };
    const ID: AmlStr = "LNRO0005";
    let name = format!("VR{uid:02X}");
    Scope::new(
        Path::new("_SB_"),
        vec![&Device::new(
            Path::new(&name),
            vec![
                &Name::new("_HID".into(), &ID),
                &Name::new("_UID".into(), &uid),
                // The device does not snoop its own caches; the CPU's are coherent.
                &Name::new("_CCA".into(), &1u8),
                &Name::new(
                    "_CRS".into(),
                    &ResourceTemplate::new(vec![
                        &Memory32Fixed::new(true, low(device.base)?, low(device.len)?),
                        &Interrupt::new(true, true, false, false, device.gsi),
                    ]),
                ),
            ],
        )],
    )
    .to_aml_bytes(aml);
    Ok(())
}
