// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! KVM's own interrupt controllers and timer: two PICs, an IOAPIC with 24 pins, and a PIT.

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_PIT_SPEAKER_DUMMY,
    kvm_irqchip, kvm_pit_config, kvm_pit_state2,
};
use kvm_ioctls::VmFd;
use serde::{Deserialize, Serialize};

use crate::layout;
use crate::vm::VmError;

/// The chips a saved state holds, in this order.
const CHIPS: [u32; 3] = [
    KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE,
    KVM_IRQCHIP_IOAPIC,
];

/// What the chips hold. The local APICs belong to the vCPUs' state.
#[derive(Deserialize, Serialize)]
pub struct IrqchipState {
    chips: Vec<kvm_irqchip>,
    pit: kvm_pit_state2,
}

/// Creates the chips; must come before the first vCPU.
///
/// # Errors
/// KVM refused.
pub fn create(vm: &VmFd) -> Result<(), VmError> {
    vm.set_identity_map_address(layout::KVM_IDENTITY_MAP)
        .map_err(|e| VmError::Kvm("KVM_SET_IDENTITY_MAP_ADDR", e))?;
    vm.set_tss_address(layout::KVM_TSS)
        .map_err(|e| VmError::Kvm("KVM_SET_TSS_ADDR", e))?;
    vm.create_irq_chip()
        .map_err(|e| VmError::Kvm("KVM_CREATE_IRQCHIP", e))?;
    // The speaker's port 0x61 is read in the guest's early TSC calibration.
    vm.create_pit2(kvm_pit_config {
        flags: KVM_PIT_SPEAKER_DUMMY,
        ..Default::default()
    })
    .map_err(|e| VmError::Kvm("KVM_CREATE_PIT2", e))
}

/// Reads the chips. Every vCPU must be parked.
///
/// # Errors
/// KVM refused.
pub fn save(vm: &VmFd) -> Result<IrqchipState, VmError> {
    let mut chips = Vec::with_capacity(CHIPS.len());
    for chip_id in CHIPS {
        let mut chip = kvm_irqchip {
            chip_id,
            ..Default::default()
        };
        vm.get_irqchip(&mut chip)
            .map_err(|e| VmError::Kvm("KVM_GET_IRQCHIP", e))?;
        chips.push(chip);
    }
    let pit = vm.get_pit2().map_err(|e| VmError::Kvm("KVM_GET_PIT2", e))?;
    Ok(IrqchipState { chips, pit })
}

/// Writes the chips.
///
/// # Errors
/// The state names other chips than these, or KVM refused.
pub fn restore(vm: &VmFd, state: &IrqchipState) -> Result<(), VmError> {
    if !state.chips.iter().map(|chip| chip.chip_id).eq(CHIPS) {
        return Err(VmError::State(
            "its interrupt controllers are not two PICs and an IOAPIC".into(),
        ));
    }
    for chip in &state.chips {
        vm.set_irqchip(chip)
            .map_err(|e| VmError::Kvm("KVM_SET_IRQCHIP", e))?;
    }
    vm.set_pit2(&state.pit)
        .map_err(|e| VmError::Kvm("KVM_SET_PIT2", e))
}
