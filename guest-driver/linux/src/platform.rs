// SPDX-License-Identifier: GPL-2.0-only

//! flush-core's platform: this kernel.

use core::ffi::CStr;

use flush_core::{Cause, Cookie, Error, Platform, Refusal, Request, Ticks, Used, WaitQueue};

use crate::bios::BioList;
#[cfg(vpr_faults)]
use crate::ffi;
use crate::handle::{self, Handle};
use crate::lock::SpinLock;

/// Request slots of a device. Two keep the host busy; the others take new flushes while tasks that
/// have their result were not scheduled yet.
pub const SLOTS: usize = 8;

/// Wait queues of a device: one a slot, and two more.
pub const WAITS: u32 = SLOTS as u32 + 2;

/// How long until the watchdog looks, in milliseconds, at most.
const WATCHDOG_MS: u32 = 1000;

/// -ENOMEM (include/uapi/asm-generic/errno-base.h).
const ENOMEM: i32 = 12;

/// The kernel under one device's core.
pub struct Kernel {
    handle: Handle,
    /// The watchdog's period.
    period: Ticks,
}

impl Kernel {
    /// The platform of a device. A silence of `flush_timeout` is to be noticed within an
    /// eighth of it.
    pub fn new(handle: Handle, flush_timeout: Ticks) -> Self {
        let longest = handle::ticks(WATCHDOG_MS);
        let period = match flush_timeout {
            0 => longest,
            // Not clamp: it can panic.
            timeout => (timeout / 8).max(1).min(longest),
        };
        Self { handle, period }
    }

    /// Lets the watchdog come again.
    pub fn arm_again(&self) {
        self.handle.arm_watchdog(self.period);
    }
}

fn index(queue: WaitQueue) -> u32 {
    match queue {
        WaitQueue::FreeSlot => SLOTS as u32,
        WaitQueue::Drain => SLOTS as u32 + 1,
        WaitQueue::Slot(slot) => slot as u32,
    }
}

fn text(cause: Cause) -> &'static CStr {
    match cause {
        Cause::QueueBroken => c"broken: the flush queue is unusable; flushes fail until the device is bound anew",
        Cause::NeedsReset => c"broken: the device needs a reset; flushes fail until it is bound anew",
        Cause::Down => c"broken: the device was pulled out, or reset behind the driver's back; flushes fail until it is bound anew",
        Cause::AddFailed => c"broken: the flush queue took no request; flushes fail until the device is bound anew",
        Cause::KickFailed => c"broken: the device could not be notified; flushes fail until it is bound anew",
        Cause::BadCookie => c"broken: the device answered a flush that was not in flight; flushes fail until it is bound anew",
        Cause::Silent => c"broken: the device did not answer a flush in time; flushes fail until it is bound anew",
        Cause::SilentUntilReset => c"broken: the device did not answer a flush before it was reset; flushes fail until the reset is over",
        Cause::NotThawed => c"broken: the device did not come back from a suspend; flushes fail until it is bound anew",
    }
}

impl Platform for Kernel {
    type Lock<T> = SpinLock<T>;
    type Bios = BioList;

    fn new_lock<T>(&self, value: T) -> SpinLock<T> {
        // INVARIANT: a core makes one lock, and a device has one core.
        SpinLock::new(self.handle, value)
    }

    fn wait(&self, on: WaitQueue, until: Option<Ticks>, ready: impl FnMut() -> bool) {
        let ticks = until.map_or(Ticks::MAX, |until| until.saturating_sub(handle::now()));
        self.handle.wait(index(on), ticks, ready);
    }

    fn wake(&self, on: WaitQueue) {
        self.handle.wake(index(on));
    }

    fn now(&self) -> Ticks {
        handle::now()
    }

    fn publish(&self, request: &Request, cookie: Cookie) -> Result<(), Refusal> {
        #[cfg(vpr_faults)]
        // SAFETY: always allowed.
        if unsafe { ffi::vpr_fault_no_page() } {
            return Err(Refusal::NoMemory);
        }
        #[cfg(vpr_faults)]
        // SAFETY: always allowed.
        if unsafe { ffi::vpr_fault_bad_request() } {
            return self
                .handle
                .add_readable(request, cookie)
                .map_err(|_| Refusal::Broken);
        }
        #[cfg(vpr_use_after_free)]
        crate::entry::LAST_STATUS.store(
            request.status().as_ptr(),
            core::sync::atomic::Ordering::Relaxed,
        );
        self.handle.add(request, cookie).map_err(|error| {
            if error == -ENOMEM {
                Refusal::NoMemory
            } else {
                Refusal::Broken
            }
        })
    }

    fn kick(&self) -> bool {
        #[cfg(vpr_faults)]
        // SAFETY: always allowed.
        if unsafe { ffi::vpr_fault_fail_kick() } {
            return false;
        }
        self.handle.kick()
    }

    fn next_used(&self) -> Option<Used> {
        let used = self.handle.next_used()?;
        #[cfg(vpr_faults)]
        // SAFETY: always allowed.
        if unsafe { ffi::vpr_fault_drop_completion() } {
            return None;
        }
        Some(used)
    }

    fn detach(&self) -> Option<Cookie> {
        self.handle.detach()
    }

    fn queue_broken(&self) -> bool {
        self.handle.queue_broken()
    }

    fn trouble(&self) -> Option<Cause> {
        self.handle.status().trouble()
    }

    fn arm_watchdog(&self) {
        self.arm_again();
    }

    fn end(&self, bios: BioList, result: Result<(), Error>) {
        bios.end(result.map_or_else(Error::errno, |()| 0));
    }

    fn broke(&self, cause: Cause) {
        self.handle.virtio().error(text(cause));
    }
}
