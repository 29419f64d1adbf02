// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The ACPI tables (ACPI 6.5): a PC with fixed power management hardware, one IOAPIC, and
//! its virtio-mmio devices, which a stock kernel finds here only.

mod dsdt;
mod fadt;
mod madt;

use acpi_tables::Aml;
use acpi_tables::facs::FACS;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::layout;
use crate::vm::VmError;

pub use self::dsdt::SLEEP_TYPE_OFF;

const OEM: [u8; 6] = *b"PMEMFL";
const OEM_TABLE: [u8; 8] = *b"VMM     ";
const OEM_REVISION: u32 = 1;

/// What a table's address must be a multiple of: 64 for the FACS.
const TABLE_ALIGN: u64 = 64;

/// A virtio-mmio device as the guest finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmioDevice {
    /// Its register window.
    pub base: u64,
    /// The window's size in bytes.
    pub len: u64,
    /// Its interrupt.
    pub gsi: u32,
}

/// Writes all tables; returns the RSDP's address.
///
/// # Errors
/// The tables or RAM are too small.
pub fn write(
    ram: &GuestMemoryMmap,
    vcpus: u8,
    serial: bool,
    devices: &[MmioDevice],
) -> Result<u64, VmError> {
    let mut next = layout::ACPI + TABLE_ALIGN;
    let mut put = |table: &dyn Aml| -> Result<u64, VmError> {
        let bytes = bytes(table);
        let at = next;
        let room = layout::ACPI_END - at;
        next = (at + bytes.len() as u64).next_multiple_of(TABLE_ALIGN);
        if next > layout::ACPI_END {
            return Err(VmError::AcpiTooLarge(bytes.len(), room));
        }
        ram.write_slice(&bytes, GuestAddress(at))
            .map_err(|e| VmError::Memory("the ACPI tables", e))?;
        Ok(at)
    };
    let facs = put(&FACS::new())?;
    let dsdt = put(&dsdt::dsdt(serial, devices)?)?;
    let fadt = put(&fadt::fadt(dsdt, facs)?)?;
    let madt = put(&madt::madt(vcpus))?;
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = put(&xsdt)?;
    ram.write_slice(&bytes(&Rsdp::new(OEM, xsdt)), GuestAddress(layout::ACPI))
        .map_err(|e| VmError::Memory("the ACPI tables", e))?;
    Ok(layout::ACPI)
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ram() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 2 << 20)]).unwrap()
    }

    fn read(ram: &GuestMemoryMmap, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        ram.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    /// A table with a checked header.
    fn table(ram: &GuestMemoryMmap, at: u64, signature: &[u8; 4]) -> Vec<u8> {
        let len = u32::from_le_bytes(read(ram, at + 4, 4).try_into().unwrap());
        let bytes = read(ram, at, usize::try_from(len).unwrap());
        assert_eq!(&bytes[..4], signature);
        assert_eq!(sum(&bytes), 0, "checksum of {signature:?}");
        bytes
    }

    #[test]
    fn every_table_is_reachable_and_its_checksum_holds() {
        let ram = ram();
        let device = MmioDevice {
            base: layout::VIRTIO_MMIO,
            len: 0x1000,
            gsi: 16,
        };
        let rsdp_at = write(&ram, 4, true, &[device; 8]).unwrap();
        let rsdp = read(&ram, rsdp_at, 36);
        assert_eq!(&rsdp[..8], b"RSD PTR ");
        assert_eq!(rsdp_at % 16, 0);
        assert_eq!((sum(&rsdp[..20]), sum(&rsdp)), (0, 0));

        let xsdt = table(&ram, u64_at(&rsdp, 24), b"XSDT");
        let fadt = table(&ram, u64_at(&xsdt, 36), b"FACP");
        table(&ram, u64_at(&xsdt, 44), b"APIC");
        let facs_at = u32::from_le_bytes(fadt[36..40].try_into().unwrap());
        let dsdt_at = u32::from_le_bytes(fadt[40..44].try_into().unwrap());
        assert_eq!(facs_at % 64, 0);
        assert_eq!(read(&ram, facs_at.into(), 4), b"FACS");
        let dsdt = table(&ram, dsdt_at.into(), b"DSDT");
        let found = dsdt.windows(8).filter(|w| *w == b"LNRO0005").count();
        assert_eq!(found, 8);
    }

    #[test]
    fn too_little_ram_is_an_error() {
        let ram = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        write(&ram, 1, true, &[]).unwrap_err();
    }
}
