// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a snapshot keeps of a machine, besides its memory.
//!
//! Devices are read before the interrupt controllers, and these before the vCPUs: an
//! interrupt on its way goes down that line. KVM delivers an irqfd's edge on a thread of
//! its own, so one may still be missing; a restored machine sends what its drivers have
//! not acknowledged again.

use kvm_bindings::kvm_clock_data;
use serde::{Deserialize, Serialize};

use super::{Vm, VmError};
use crate::config::{ConsoleOutputMode, VmConfig};
use crate::cpu::{self, VcpuState};
use crate::devices::SerialPortState;
use crate::devices::pm::PmRegisters;
use crate::irqchip::{self, IrqchipState};
use crate::virtio::mmio::MmioState;
use crate::virtio::pmem::PmemState;

/// A machine's state.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VmState {
    /// The serial port, unless there is none.
    pub serial: Option<SerialPortState>,
    /// The power management registers.
    pub pm: PmRegisters,
    /// The pmem devices, in the order of the configuration.
    pub pmem: Vec<PmemSlotState>,
    irqchip: IrqchipState,
    clock: kvm_clock_data,
    vcpus: Vec<VcpuState>,
}

/// A pmem device and its transport.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PmemSlotState {
    /// The device.
    pub device: PmemState,
    /// Its registers.
    pub transport: MmioState,
}

impl PmemSlotState {
    /// Checks that the device is where and as large as it was.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self, base: u64, size: u64) -> Result<(), VmError> {
        if (self.device.base, self.device.size) == (base, size) {
            return Ok(());
        }
        Err(VmError::State(format!(
            "pmem device {} had {:#x} bytes at {:#x}, now it has {size:#x} at {base:#x}",
            self.device.id, self.device.size, self.device.base
        )))
    }
}

impl VmState {
    /// Checks that it is the state of a machine with this configuration.
    ///
    /// # Errors
    /// It is another machine's.
    pub fn check(&self, config: &VmConfig) -> Result<(), VmError> {
        if self.vcpus.len() != usize::from(config.cpus.boot_vcpus) {
            return Err(VmError::State(format!(
                "it has {} vCPUs, its configuration {}",
                self.vcpus.len(),
                config.cpus.boot_vcpus
            )));
        }
        let saved: Vec<_> = self.pmem.iter().map(|slot| &slot.device.id).collect();
        let wanted: Vec<_> = config.pmem.iter().map(|pmem| &pmem.id).collect();
        if saved != wanted {
            return Err(VmError::State(format!(
                "it has the pmem devices {saved:?}, its configuration {wanted:?}"
            )));
        }
        if self.serial.is_none() != (config.serial.mode == ConsoleOutputMode::Off) {
            return Err(VmError::State(
                "it and its configuration do not agree about a serial port".into(),
            ));
        }
        Ok(())
    }
}

impl Vm {
    /// Reads everything. The machine is paused.
    pub(super) fn get(&self) -> Result<VmState, VmError> {
        let serial = self.bus.serial().map(|port| port.save());
        let pm = self.bus.pm();
        let pmem = self
            .bus
            .windows()
            .iter()
            .map(|window| {
                let mmio = window.lock();
                PmemSlotState {
                    device: mmio.device().save(),
                    transport: mmio.save(),
                }
            })
            .collect();
        let irqchip = irqchip::save(&self.vm)?;
        let vcpus = self.vcpus.each(|fd, id| cpu::save(&self.kvm, fd, id))?;
        Ok(VmState {
            serial,
            pm,
            pmem,
            irqchip,
            clock: self.clock,
            vcpus,
        })
    }

    /// Writes what the devices do not already have. The machine is new and has not run.
    pub(super) fn put(&mut self, state: &VmState) -> Result<(), VmError> {
        self.clock = state.clock;
        // Before the vCPUs, so that their clock pages are computed from it.
        self.set_clock()?;
        irqchip::restore(&self.vm, &state.irqchip)?;
        let mut saved = state.vcpus.iter();
        self.vcpus.each(|fd, id| {
            let state = saved
                .next()
                .ok_or_else(|| VmError::State(format!("it has no vCPU {id}")))?;
            cpu::restore(fd, id, state)
        })?;
        Ok(())
    }
}
