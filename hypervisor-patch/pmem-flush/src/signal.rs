// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! The device's way to the guest.

use std::io;
use std::sync::Arc;

/// Interrupts and the device status, which belong to the host's transport.
/// Called on the device thread.
pub trait Signal {
    /// Interrupts the guest for the used ring.
    ///
    /// # Errors
    ///
    /// The interrupt could not be sent. The engine logs it and goes on.
    fn used(&self) -> io::Result<()>;

    /// Sets `DEVICE_NEEDS_RESET` (0x40) in the device status, then sends a
    /// configuration change interrupt (virtio 1.4, 2.1.1).
    ///
    /// # Errors
    ///
    /// The interrupt could not be sent. The engine logs it and goes on.
    fn needs_reset(&self) -> io::Result<()>;
}

impl<S: Signal + ?Sized> Signal for Arc<S> {
    fn used(&self) -> io::Result<()> {
        (**self).used()
    }

    fn needs_reset(&self) -> io::Result<()> {
        (**self).needs_reset()
    }
}
