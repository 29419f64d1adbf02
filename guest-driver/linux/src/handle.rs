// SPDX-License-Identifier: GPL-2.0-only

//! The device as C sees it, with a safe method for each helper.

use core::ffi::{CStr, c_int, c_void};
use core::ptr::{self, NonNull};

use flush_core::{Cause, Cookie, Request, Ticks, Used};

use crate::ffi::{self, CDevice, VirtioDevice};

/// A negative errno, as the kernel's functions return it.
pub type Errno = c_int;

fn check(outcome: c_int) -> Result<(), Errno> {
    if outcome < 0 { Err(outcome) } else { Ok(()) }
}

/// The virtio device.
///
/// # Invariants
///
/// It is a device that this driver is being bound to, or is bound to.
#[derive(Clone, Copy)]
pub struct Virtio(NonNull<VirtioDevice>);

impl Virtio {
    /// # Safety
    ///
    /// The device must stay bound to this driver while the handle is used.
    pub unsafe fn new(vdev: NonNull<VirtioDevice>) -> Self {
        // INVARIANT: the caller's promise.
        Self(vdev)
    }

    /// Whether VERSION_1 was negotiated.
    pub fn is_modern(self) -> bool {
        // SAFETY: the device is there, by the invariant.
        unsafe { ffi::vpr_is_modern(self.0.as_ptr()) }
    }

    /// Start and size that the device gives for its memory, in bytes.
    pub fn region(self) -> Result<(u64, u64), Errno> {
        let (mut start, mut size) = (0, 0);
        // SAFETY: as above; the two places are written before the call returns.
        check(unsafe { ffi::vpr_region(self.0.as_ptr(), &mut start, &mut size) })?;
        Ok((start, size))
    }

    /// Logs an error.
    pub fn error(self, text: &CStr) {
        // SAFETY: as above; the text ends with a 0.
        unsafe { ffi::vpr_say_error(self.0.as_ptr(), text.as_ptr()) }
    }

    /// Logs a warning.
    pub fn warning(self, text: &CStr) {
        // SAFETY: as above.
        unsafe { ffi::vpr_say_warning(self.0.as_ptr(), text.as_ptr()) }
    }

    /// Logs what is wrong with a region.
    pub fn bad_region(self, text: &CStr, start: u64, size: u64) {
        // SAFETY: as above.
        unsafe { ffi::vpr_say_region(self.0.as_ptr(), text.as_ptr(), start, size) }
    }
}

/// A device status (virtio 1.4, device status field).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status(u8);

impl Status {
    const DRIVER_OK: u8 = 4;
    const NEEDS_RESET: u8 = 0x40;
    /// What a function that is not there any more reads as (PCI); two of these bits mean nothing.
    const ABSENT: u8 = 0xff;

    /// Whether the device is not there any more, and can't be reset: a transport that waits for the
    /// reset to be done would wait for ever.
    pub fn is_absent(self) -> bool {
        self.0 == Self::ABSENT
    }

    /// What is wrong with a device that has been set up, if anything.
    pub fn trouble(self) -> Option<Cause> {
        if self.is_absent() || self.0 & Self::DRIVER_OK == 0 {
            Some(Cause::Down)
        } else if self.0 & Self::NEEDS_RESET != 0 {
            Some(Cause::NeedsReset)
        } else {
            None
        }
    }
}

/// C's part of a device: queue, lock, wait queues, timer, region.
///
/// # Invariants
///
/// It points to what [`Handle::new`] allocated, until [`Handle::free`]; the virtio device outlives
/// it.
#[derive(Clone, Copy)]
pub struct Handle {
    dev: NonNull<CDevice>,
    virtio: Virtio,
}

impl Handle {
    /// Allocates a device with as many wait queues; None without memory.
    pub fn new(virtio: Virtio, waits: u32) -> Option<Self> {
        // SAFETY: the device is being bound, so its private pointer is this driver's.
        let dev = unsafe { ffi::vpr_device_new(virtio.0.as_ptr(), waits) };
        // INVARIANT: allocated just now.
        NonNull::new(dev).map(|dev| Self { dev, virtio })
    }

    /// Frees the device.
    ///
    /// # Safety
    ///
    /// No copy of the handle is used afterwards; no queue, region or running watchdog is left.
    pub unsafe fn free(self) {
        // SAFETY: the caller's promise.
        unsafe { ffi::vpr_device_free(self.dev.as_ptr()) }
    }

    /// The virtio device.
    pub fn virtio(self) -> Virtio {
        self.virtio
    }

    /// Sets what the callbacks get.
    ///
    /// # Safety
    ///
    /// `driver` is what `entry` takes, and stays so until nothing can call back any more.
    pub unsafe fn set_driver(self, driver: *mut c_void) {
        // SAFETY: by the invariant; the caller answers for the pointer.
        unsafe { ffi::vpr_set_driver(self.dev.as_ptr(), driver) }
    }

    /// Registers the memory as an nvdimm region whose flushes come to `entry`. Sleeps.
    pub fn register_region(self, start: u64, size: u64) -> Result<(), Errno> {
        // SAFETY: by the invariant.
        check(unsafe { ffi::vpr_register_region(self.dev.as_ptr(), start, size) })
    }

    /// Takes the region back: its users are gone when this returns. Sleeps.
    pub fn unregister_region(self) {
        // SAFETY: by the invariant.
        unsafe { ffi::vpr_unregister_region(self.dev.as_ptr()) }
    }

    /// Sets up the queue. Sleeps.
    pub fn open_queue(self) -> Result<(), Errno> {
        // SAFETY: by the invariant.
        check(unsafe { ffi::vpr_open_queue(self.dev.as_ptr()) })
    }

    /// Sets DRIVER_OK.
    pub fn ready(self) {
        // SAFETY: by the invariant.
        unsafe { ffi::vpr_ready(self.dev.as_ptr()) }
    }

    /// Resets the device, and sleeps until that is done: for ever if the device is absent.
    pub fn reset(self) {
        // SAFETY: by the invariant.
        unsafe { ffi::vpr_reset(self.dev.as_ptr()) }
    }

    /// Deletes the queue, if there is one; its callback has ended when this returns. Sleeps.
    pub fn close_queue(self) {
        // SAFETY: by the invariant.
        unsafe { ffi::vpr_close_queue(self.dev.as_ptr()) }
    }

    /// Puts a request into the queue.
    pub fn add(self, request: &Request, cookie: Cookie) -> Result<(), Errno> {
        let command = request.command().as_ptr().cast();
        let status = request.status().as_ptr().cast();
        // SAFETY: flush-core calls this while there is a queue, and keeps the request until the queue
        // gives it back or is deleted. Both fields are atomics of four bytes.
        check(unsafe { ffi::vpr_add(self.dev.as_ptr(), command, status, cookie as _) })
    }

    /// A request that no device can answer, for tests.
    #[cfg(vpr_faults)]
    pub fn add_readable(self, request: &Request, cookie: Cookie) -> Result<(), Errno> {
        let command = request.command().as_ptr().cast();
        // SAFETY: as in `add`.
        check(unsafe { ffi::vpr_add_readable(self.dev.as_ptr(), command, cookie as _) })
    }

    /// Notifies the device; false if that failed.
    pub fn kick(self) -> bool {
        // SAFETY: by the invariant; flush-core calls this while there is a queue.
        unsafe { ffi::vpr_kick(self.dev.as_ptr()) }
    }

    /// The next buffer that the device gave back.
    pub fn next_used(self) -> Option<Used> {
        let mut len = 0;
        // SAFETY: as above; the length is written before the call returns.
        match unsafe { ffi::vpr_next_used(self.dev.as_ptr(), &mut len) } {
            0 => None,
            cookie => Some(Used {
                cookie: cookie as Cookie,
                len,
            }),
        }
    }

    /// After a reset: a buffer that the queue still holds.
    pub fn detach(self) -> Option<Cookie> {
        // SAFETY: as above.
        match unsafe { ffi::vpr_detach(self.dev.as_ptr()) } {
            0 => None,
            cookie => Some(cookie as Cookie),
        }
    }

    /// Whether the ring core has given the queue up.
    pub fn queue_broken(self) -> bool {
        // SAFETY: as above.
        unsafe { ffi::vpr_queue_broken(self.dev.as_ptr()) }
    }

    /// The device status.
    pub fn status(self) -> Status {
        // SAFETY: by the invariant.
        Status(unsafe { ffi::vpr_status(self.dev.as_ptr()) })
    }

    /// Runs `section` with the device's spinlock held and interrupts off.
    pub fn locked<R>(self, section: impl FnOnce() -> R) -> R {
        // SAFETY: by the invariant; panics abort, so the lock is always let go.
        unsafe {
            let flags = ffi::vpr_lock(self.dev.as_ptr());
            let value = section();
            ffi::vpr_unlock(self.dev.as_ptr(), flags);
            value
        }
    }

    /// Sleeps on a wait queue until `ready` says true, for as many ticks at most.
    pub fn wait<F: FnMut() -> bool>(self, queue: u32, ticks: Ticks, mut ready: F) {
        unsafe extern "C" fn call<F: FnMut() -> bool>(context: *mut c_void) -> bool {
            // SAFETY: the context is the closure below, which outlives the wait.
            unsafe { (*context.cast::<F>())() }
        }
        let context = ptr::from_mut(&mut ready).cast();
        // SAFETY: by the invariant; `queue` is one of those that were made; the closure is called
        // on this stack only.
        unsafe { ffi::vpr_wait(self.dev.as_ptr(), queue, ticks, call::<F>, context) }
    }

    /// Wakes all who sleep on a wait queue.
    pub fn wake(self, queue: u32) {
        // SAFETY: by the invariant.
        unsafe { ffi::vpr_wake(self.dev.as_ptr(), queue) }
    }

    /// Calls `entry`'s watchdog after as many ticks, once.
    pub fn arm_watchdog(self, ticks: Ticks) {
        // SAFETY: by the invariant.
        unsafe { ffi::vpr_arm_watchdog(self.dev.as_ptr(), ticks) }
    }

    /// Ends the watchdog for good: it can't be armed any more. Sleeps.
    pub fn end_watchdog(self) {
        // SAFETY: by the invariant.
        unsafe { ffi::vpr_end_watchdog(self.dev.as_ptr()) }
    }

    /// Calls `entry` whenever the system begins or ends a sleep, and before it goes down. Sleeps.
    pub fn follow_system(self) -> Result<(), Errno> {
        // SAFETY: by the invariant; the device is followed once.
        check(unsafe { ffi::vpr_follow_system(self.dev.as_ptr()) })
    }

    /// Ends that; these calls have returned when this does. Sleeps.
    pub fn unfollow_system(self) {
        // SAFETY: by the invariant.
        unsafe { ffi::vpr_unfollow_system(self.dev.as_ptr()) }
    }

    /// In a freeze: the device was reset, so what the driver or the core gave up before is over.
    pub fn forget_failure(self) {
        // SAFETY: by the invariant; the virtio core does not touch the flag during a freeze.
        unsafe { ffi::vpr_forget_failure(self.dev.as_ptr()) }
    }
}

/// jiffies, in 64 bits.
pub fn now() -> Ticks {
    // SAFETY: always allowed.
    unsafe { ffi::vpr_now() }
}

/// Milliseconds in jiffies, rounded up.
pub fn ticks(milliseconds: u32) -> Ticks {
    // SAFETY: always allowed.
    unsafe { ffi::vpr_ticks(milliseconds) }
}

/// The kernel's page size, in bytes.
pub fn page_size() -> u64 {
    // SAFETY: always allowed.
    unsafe { ffi::vpr_page_size() }
}

/// The module parameter `freeze_timeout_ms`.
pub fn freeze_timeout() -> Ticks {
    // SAFETY: always allowed.
    ticks(unsafe { ffi::vpr_freeze_timeout_ms() })
}

/// The module parameter `flush_timeout_ms`.
pub fn flush_timeout() -> Ticks {
    // SAFETY: always allowed.
    ticks(unsafe { ffi::vpr_flush_timeout_ms() })
}

/// The module parameter `remove_timeout_ms`.
pub fn remove_timeout() -> Ticks {
    // SAFETY: always allowed.
    ticks(unsafe { ffi::vpr_remove_timeout_ms() })
}
