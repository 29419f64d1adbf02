// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The fixed ACPI power management registers (ACPI 6.5, 4.8.3), a register file without
//! I/O: status and enable (2 bytes each), control (2 bytes), reset (1 byte).

use serde::{Deserialize, Serialize};

use crate::acpi::SLEEP_TYPE_OFF;
use crate::machine::GuestExit;

/// Where PM1 status and enable are, from the first register's port.
pub const EVENT_BLOCK: u16 = 0;
/// Their bytes.
pub const EVENT_BLOCK_LEN: u8 = 4;
/// Where PM1 control is.
pub const CONTROL: u16 = 4;
/// Its bytes.
pub const CONTROL_LEN: u8 = 2;
/// Where the reset register is.
pub const RESET: u16 = 6;
/// What resets the machine when written there.
pub const RESET_VALUE: u8 = 1;
/// How many ports all registers take.
pub const PORTS: u16 = 8;

/// Status and enable, high byte: the power button.
const POWER_BUTTON: u16 = 1 << 8;
/// Control: the interrupt is an SCI. Always set: there is no legacy mode.
const SCI_ENABLED: u16 = 1;
/// Control, high byte: go to sleep.
const SLEEP_ENABLE: u8 = 1 << 5;

/// The registers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct PmRegisters {
    status: u16,
    enable: u16,
    control: u16,
}

impl PmRegisters {
    /// Reads bytes from register `offset` on.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        let [status_low, status_high] = self.status.to_le_bytes();
        let [enable_low, enable_high] = self.enable.to_le_bytes();
        let [control_low, control_high] = (self.control | SCI_ENABLED).to_le_bytes();
        let registers = [
            status_low,
            status_high,
            enable_low,
            enable_high,
            control_low,
            control_high,
            0,
            0,
        ];
        for (byte, register) in data.iter_mut().zip(registers.iter().skip(offset.into())) {
            *byte = *register;
        }
    }

    /// Writes bytes from register `offset` on. `Some`: the guest powers off or resets.
    pub fn write(&mut self, offset: u16, data: &[u8]) -> Option<GuestExit> {
        for (register, byte) in (offset..PORTS).zip(data) {
            let value = u16::from(*byte);
            match register {
                // Status bits are cleared by writing a one.
                0 => self.status &= !value,
                1 => self.status &= !(value << 8),
                2 => self.enable = (self.enable & 0xff00) | value,
                3 => self.enable = (self.enable & 0x00ff) | value << 8,
                4 => self.control = (self.control & 0xff00) | value,
                5 => {
                    let kept = byte & !SLEEP_ENABLE;
                    self.control = (self.control & 0x00ff) | u16::from(kept) << 8;
                    if byte & SLEEP_ENABLE != 0 {
                        let sleep_type = byte >> 2 & 7;
                        if sleep_type == SLEEP_TYPE_OFF {
                            return Some(GuestExit::Shutdown);
                        }
                        log::warn!("the guest asks for sleep type {sleep_type}; there is only S5");
                    }
                }
                RESET if *byte == RESET_VALUE => return Some(GuestExit::Reset),
                _ => {}
            }
        }
        None
    }

    /// Presses the power button.
    pub fn press_power_button(&mut self) {
        self.status |= POWER_BUTTON;
    }

    /// Whether the ACPI interrupt is asserted: it is level-triggered.
    pub fn interrupt(&self) -> bool {
        self.status & self.enable & POWER_BUTTON != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pm: &PmRegisters, offset: u16) -> u16 {
        let mut data = [0; 2];
        pm.read(offset, &mut data);
        u16::from_le_bytes(data)
    }

    #[test]
    fn a_pressed_button_interrupts_until_the_guest_has_cleared_it() {
        let mut pm = PmRegisters::default();
        pm.press_power_button();
        assert!(!pm.interrupt(), "not enabled yet");
        pm.write(2, &POWER_BUTTON.to_le_bytes());
        assert!(pm.interrupt());
        assert_eq!(read(&pm, 0), POWER_BUTTON);
        pm.write(0, &[0xff]);
        assert!(pm.interrupt(), "other bits were cleared");
        pm.write(0, &POWER_BUTTON.to_le_bytes());
        assert!(!pm.interrupt());
        assert_eq!(read(&pm, 0), 0);
    }

    #[test]
    fn sleep_type_5_powers_off_and_no_other_does() {
        let mut pm = PmRegisters::default();
        for sleep_type in 0..8u8 {
            let exit = pm.write(CONTROL, &[0, sleep_type << 2 | SLEEP_ENABLE]);
            assert_eq!(exit, (sleep_type == 5).then_some(GuestExit::Shutdown));
        }
        assert_eq!(pm.write(CONTROL, &[0, 5 << 2]), None, "without enable");
    }

    #[test]
    fn the_machine_is_always_in_acpi_mode() {
        let mut pm = PmRegisters::default();
        pm.write(CONTROL, &[0, 0]);
        assert_eq!(read(&pm, CONTROL) & SCI_ENABLED, SCI_ENABLED);
    }

    #[test]
    fn only_the_reset_value_resets() {
        let mut pm = PmRegisters::default();
        assert_eq!(pm.write(RESET, &[0]), None);
        assert_eq!(pm.write(RESET, &[RESET_VALUE]), Some(GuestExit::Reset));
    }

    #[test]
    fn accesses_of_any_width_at_any_offset_are_harmless() {
        let mut pm = PmRegisters::default();
        for offset in 0..PORTS {
            for len in [1, 2, 4, 8] {
                pm.read(offset, &mut vec![0; len]);
                pm.write(offset, &vec![0; len]);
            }
        }
    }
}
