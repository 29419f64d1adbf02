// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Interrupt lines into KVM's controllers.

use std::io;
use std::sync::Arc;

use kvm_ioctls::VmFd;
use vm_superio::Trigger;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::layout;
use crate::vm::VmError;

/// An edge-triggered line: each write to its event descriptor is one edge.
pub struct IrqLine(EventFd);

impl IrqLine {
    /// A line to the pin `gsi`.
    ///
    /// # Errors
    /// No file descriptor left, or KVM refused.
    pub fn new(vm: &VmFd, gsi: u32) -> Result<Self, VmError> {
        let event = EventFd::new(EFD_NONBLOCK)
            .map_err(|e| VmError::Host("cannot create an interrupt line", e))?;
        vm.register_irqfd(&event, gsi)
            .map_err(|e| VmError::Kvm("KVM_IRQFD", e))?;
        Ok(Self(event))
    }

    /// A line that ends nowhere.
    #[cfg(test)]
    pub fn loose() -> Self {
        Self(EventFd::new(EFD_NONBLOCK).unwrap())
    }

    /// How many edges there were since the last call.
    #[cfg(test)]
    pub fn edges(&self) -> u64 {
        self.0.read().unwrap_or(0)
    }
}

impl Trigger for IrqLine {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        match self.0.write(1) {
            // The counter is full of edges that KVM has yet to take: one more is none.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }
}

/// The level-triggered ACPI interrupt.
pub struct Sci(Arc<VmFd>);

impl Sci {
    /// The machine's.
    pub fn new(vm: Arc<VmFd>) -> Self {
        Self(vm)
    }

    /// Sets the line.
    ///
    /// # Errors
    /// KVM refused.
    pub fn set(&self, asserted: bool) -> Result<(), VmError> {
        self.0
            .set_irq_line(layout::SCI_GSI, asserted)
            .map_err(|e| VmError::Kvm("KVM_IRQ_LINE", e))
    }
}
