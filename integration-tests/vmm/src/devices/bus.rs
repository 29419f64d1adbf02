// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Who answers at which port and address. vCPU threads call it, several at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::irq::Sci;
use super::pm::{self, PmRegisters};
use super::serial::SerialPort;
use crate::cpu::Bus;
use crate::layout;
use crate::machine::GuestExit;
use crate::virtio::fault::{PmemWindow, explain, explain_near};
use crate::virtio::mmio::Mmio;
use crate::virtio::pmem::Pmem;
use crate::vm::VmError;

/// A register window with its first address.
pub struct Window {
    /// Its first address.
    pub base: u64,
    /// What answers there.
    pub mmio: Mutex<Mmio<Pmem>>,
}

impl Window {
    /// The transport.
    pub fn lock(&self) -> MutexGuard<'_, Mmio<Pmem>> {
        self.mmio.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All devices.
pub struct DeviceBus {
    serial: Option<Arc<SerialPort>>,
    pm: Mutex<PmRegisters>,
    sci: Sci,
    windows: Vec<Window>,
    pmem: Vec<PmemWindow>,
}

impl DeviceBus {
    /// A bus with these devices. `pmem` says whose memory is where.
    pub fn new(
        serial: Option<Arc<SerialPort>>,
        pm: PmRegisters,
        sci: Sci,
        windows: Vec<Window>,
        pmem: Vec<PmemWindow>,
    ) -> Self {
        Self {
            serial,
            pm: Mutex::new(pm),
            sci,
            windows,
            pmem,
        }
    }

    /// The serial port, if there is one.
    pub fn serial(&self) -> Option<&Arc<SerialPort>> {
        self.serial.as_ref()
    }

    /// The virtio-mmio windows.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// The power management registers as they are.
    pub fn pm(&self) -> PmRegisters {
        self.lock_pm().clone()
    }

    /// Presses the power button.
    ///
    /// # Errors
    /// The interrupt cannot be raised.
    pub fn press_power_button(&self) -> Result<(), VmError> {
        let mut pm = self.lock_pm();
        pm.press_power_button();
        self.sci.set(pm.interrupt())
    }

    /// Sends the interrupts again that may have been under way when the machine was paused.
    pub fn interrupt_again(&self) {
        if let Some(serial) = &self.serial {
            serial.interrupt_again();
        }
        for window in &self.windows {
            if let Err(e) = window.lock().interrupt_again() {
                log::error!("cannot interrupt the guest: {e}");
            }
        }
        self.update_sci(&self.lock_pm());
    }

    fn lock_pm(&self) -> MutexGuard<'_, PmRegisters> {
        self.pm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update_sci(&self, pm: &PmRegisters) {
        if let Err(e) = self.sci.set(pm.interrupt()) {
            log::error!("cannot set the ACPI interrupt: {e}");
        }
    }

    fn window(&self, address: u64) -> Option<(&Window, u64)> {
        self.windows.iter().find_map(|window| {
            let offset = address.checked_sub(window.base)?;
            (offset < layout::VIRTIO_MMIO_STRIDE).then_some((window, offset))
        })
    }

    fn is_pmem(&self, address: u64) -> bool {
        self.pmem.iter().any(|window| window.holds(address))
    }

    fn serial_register(&self, port: u16) -> Option<(&SerialPort, u8)> {
        let serial = self.serial.as_deref()?;
        let offset = port.checked_sub(layout::SERIAL_PORT)?;
        (offset < layout::SERIAL_PORTS)
            .then(|| u8::try_from(offset).ok())
            .flatten()
            .map(|offset| (serial, offset))
    }
}

impl Bus for DeviceBus {
    fn port_in(&self, port: u16, data: &mut [u8]) {
        if let Some((serial, offset)) = self.serial_register(port) {
            // A string instruction reads the same register again and again.
            for byte in data {
                *byte = serial.read(offset);
            }
        } else if let Some(offset) = pm_offset(port) {
            self.lock_pm().read(offset, data);
        } else if port == layout::I8042_COMMAND {
            // No keyboard: the input buffer is empty, so that a reset can be sent at once.
            data.fill(0);
        }
    }

    fn port_out(&self, port: u16, data: &[u8]) -> Option<GuestExit> {
        if let Some((serial, offset)) = self.serial_register(port) {
            for byte in data {
                serial.write(offset, *byte);
            }
        } else if let Some(offset) = pm_offset(port) {
            let mut pm = self.lock_pm();
            let exit = pm.write(offset, data);
            self.update_sci(&pm);
            return exit;
        } else if port == layout::I8042_COMMAND && data == [layout::I8042_RESET] {
            return Some(GuestExit::Reset);
        }
        None
    }

    fn mmio_read(&self, address: u64, data: &mut [u8]) -> bool {
        let Some((window, offset)) = self.window(address) else {
            return !self.is_pmem(address);
        };
        window.lock().read(offset, data);
        true
    }

    fn mmio_write(&self, address: u64, data: &[u8]) -> bool {
        let Some((window, offset)) = self.window(address) else {
            return !self.is_pmem(address);
        };
        window.lock().write(offset, data);
        true
    }

    fn explain_fault(&self, address: u64) -> String {
        explain(&self.pmem, address)
    }

    fn explain_fault_near(&self, addresses: &[u64]) -> String {
        explain_near(&self.pmem, addresses)
    }
}

fn pm_offset(port: u16) -> Option<u16> {
    port.checked_sub(layout::PM_PORT)
        .filter(|offset| *offset < pm::PORTS)
}
