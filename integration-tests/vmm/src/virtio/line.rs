// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a transport and the device behind it share: the device status, the interrupt
//! status and the interrupt. vCPU threads and the device's thread use it at once.

use std::io;
#[cfg(feature = "fault")]
use std::sync::OnceLock;
#[cfg(feature = "fault")]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicU32, Ordering};

use pmem_flush::Signal;
use vm_superio::Trigger;

use crate::devices::IrqLine;

/// The bits of the device status (virtio 1.4, 2.1).
pub mod status {
    /// The driver has noticed the device.
    pub const ACKNOWLEDGE: u32 = 1;
    /// It knows how to drive it.
    pub const DRIVER: u32 = 2;
    /// It drives it.
    pub const DRIVER_OK: u32 = 4;
    /// Device and driver agree on features.
    pub const FEATURES_OK: u32 = 8;
    /// The device has met an error it cannot recover from.
    pub const NEEDS_RESET: u32 = 0x40;
    /// The driver has given up.
    pub const FAILED: u32 = 0x80;
    /// What a driver may set.
    pub const DRIVER_BITS: u32 = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED;
}

/// Interrupt status: a buffer was used.
pub const INTERRUPT_USED: u32 = 1;
/// Interrupt status: the configuration or the device status has changed.
pub const INTERRUPT_CONFIG: u32 = 2;

/// Device status and interrupt.
pub struct Line {
    status: AtomicU32,
    interrupt_status: AtomicU32,
    irq: IrqLine,
    #[cfg(feature = "fault")]
    gone: OnceLock<u8>,
    #[cfg(feature = "fault")]
    had_enough: AtomicBool,
}

impl Line {
    /// A device that was reset.
    pub fn new(irq: IrqLine) -> Self {
        Self {
            status: AtomicU32::new(0),
            interrupt_status: AtomicU32::new(0),
            irq,
            #[cfg(feature = "fault")]
            gone: OnceLock::new(),
            #[cfg(feature = "fault")]
            had_enough: AtomicBool::new(false),
        }
    }

    /// The device is pulled out: its registers read as `byte`, and no interrupt comes any more.
    #[cfg(feature = "fault")]
    pub fn pull(&self, byte: u8) {
        self.gone.get_or_init(|| byte);
    }

    /// How the registers of a device read that was pulled out.
    #[cfg(feature = "fault")]
    pub fn gone(&self) -> Option<u8> {
        self.gone.get().copied()
    }

    /// Whether the device has ever asked for a reset, got or not.
    #[cfg(feature = "fault")]
    pub fn had_enough(&self) -> bool {
        self.had_enough.load(Ordering::SeqCst)
    }

    /// The device status.
    pub fn status(&self) -> u32 {
        self.status.load(Ordering::SeqCst)
    }

    /// Adds bits to the device status.
    pub fn add_status(&self, bits: u32) {
        self.status.fetch_or(bits, Ordering::SeqCst);
    }

    /// Takes up a saved state.
    pub fn set(&self, status: u32, interrupt_status: u32) {
        self.status.store(status, Ordering::SeqCst);
        self.interrupt_status
            .store(interrupt_status, Ordering::SeqCst);
    }

    /// Back to the state after power-on.
    pub fn reset(&self) {
        self.set(0, 0);
    }

    /// The interrupt status.
    pub fn interrupt_status(&self) -> u32 {
        self.interrupt_status.load(Ordering::SeqCst)
    }

    /// The driver has handled these interrupts.
    pub fn acknowledge(&self, bits: u32) {
        self.interrupt_status.fetch_and(!bits, Ordering::SeqCst);
    }

    /// Interrupts the driver.
    ///
    /// # Errors
    /// The edge could not be sent.
    pub fn interrupt(&self, bits: u32) -> io::Result<()> {
        #[cfg(feature = "fault")]
        if self.gone().is_some() {
            return Ok(());
        }
        self.interrupt_status.fetch_or(bits, Ordering::SeqCst);
        self.irq.trigger()
    }

    /// Sends an edge again that may have been under way when the machine was paused: what
    /// the driver has not acknowledged yet. One too many does no harm, as the driver then
    /// finds the status clear.
    ///
    /// # Errors
    /// The edge could not be sent.
    pub fn interrupt_again(&self) -> io::Result<()> {
        if self.interrupt_status() == 0 {
            return Ok(());
        }
        self.irq.trigger()
    }

    /// How many edges there were since the last call.
    #[cfg(test)]
    pub fn edges(&self) -> u64 {
        self.irq.edges()
    }
}

impl Signal for Line {
    fn used(&self) -> io::Result<()> {
        self.interrupt(INTERRUPT_USED)
    }

    /// Only a live device needs a reset (2.1.1): one that was reset meanwhile got it.
    fn needs_reset(&self) -> io::Result<()> {
        #[cfg(feature = "fault")]
        self.had_enough.store(true, Ordering::SeqCst);
        let live = self
            .status
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
                (now & status::DRIVER_OK != 0).then_some(now | status::NEEDS_RESET)
            });
        if live.is_ok() {
            self.interrupt(INTERRUPT_CONFIG)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_was_reset_does_not_ask_for_a_reset() {
        let line = Line::new(IrqLine::loose());
        line.needs_reset().unwrap();
        assert_eq!((line.status(), line.edges()), (0, 0));
        line.add_status(status::DRIVER_OK);
        line.needs_reset().unwrap();
        assert_eq!(line.status(), status::DRIVER_OK | status::NEEDS_RESET);
        assert_eq!(line.interrupt_status(), INTERRUPT_CONFIG);
        assert_eq!(line.edges(), 1);
    }

    #[test]
    fn only_an_unacknowledged_interrupt_is_sent_again() {
        let line = Line::new(IrqLine::loose());
        line.interrupt_again().unwrap();
        assert_eq!(line.edges(), 0);
        line.used().unwrap();
        line.interrupt_again().unwrap();
        assert_eq!(line.edges(), 2);
        line.acknowledge(INTERRUPT_USED);
        line.interrupt_again().unwrap();
        assert_eq!(line.edges(), 0);
    }
}
