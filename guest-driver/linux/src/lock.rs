// SPDX-License-Identifier: GPL-2.0-only

//! flush-core's lock: the device's spinlock, with interrupts off.

use core::cell::UnsafeCell;

use flush_core::Lock;

use crate::handle::Handle;

/// A value behind the device's spinlock.
///
/// # Invariants
///
/// The device has one such value, so that the lock guards nothing else, and `value` is touched
/// with the lock held only.
pub struct SpinLock<T> {
    handle: Handle,
    value: UnsafeCell<T>,
}

impl<T> SpinLock<T> {
    /// Puts a value behind the device's lock.
    pub fn new(handle: Handle, value: T) -> Self {
        Self {
            handle,
            value: UnsafeCell::new(value),
        }
    }
}

impl<T> Lock<T> for SpinLock<T> {
    fn with<R>(&self, section: impl FnOnce(&mut T) -> R) -> R {
        self.handle.locked(|| {
            // SAFETY: the lock is held, and flush-core never nests two sections, so this is the only
            // reference.
            section(unsafe { &mut *self.value.get() })
        })
    }
}
