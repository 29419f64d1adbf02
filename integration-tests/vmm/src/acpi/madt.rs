// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The MADT: local APICs (id = vCPU number) and KVM's IOAPIC.

use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};

use super::{OEM, OEM_REVISION, OEM_TABLE};
use crate::layout;

/// The table for `vcpus` processors.
pub fn madt(vcpus: u8) -> MADT {
    let mut madt = MADT::new(
        OEM,
        OEM_TABLE,
        OEM_REVISION,
        LocalInterruptController::Address(layout::LAPIC),
    );
    for id in 0..vcpus {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, layout::IOAPIC, 0));
    madt
}

#[cfg(test)]
mod tests {
    use super::super::bytes;
    use super::*;

    #[test]
    fn each_vcpu_has_an_enabled_local_apic() {
        let table = bytes(&madt(3));
        assert_eq!(table.len(), 44 + 3 * 8 + 12);
        for id in 0..3u8 {
            let at = 44 + usize::from(id) * 8;
            assert_eq!(table[at..at + 8], [0, 8, id, id, 1, 0, 0, 0]);
        }
    }
}
