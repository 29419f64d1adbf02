// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! What the core asks of the system it runs in.

use crate::error::{Cause, Error};
use crate::request::Request;

/// Time on the platform's monotonic clock, in a unit of its choice (the kernel
/// module uses jiffies). The core only adds and compares.
pub type Ticks = u64;

/// The token that goes through the ring with a request and comes back with it.
/// Never 0.
pub type Cookie = usize;

/// A value behind a lock that excludes every other context, interrupts too.
pub trait Lock<T> {
    /// Runs `section` with the lock held. The core never nests two sections and
    /// never sleeps in one.
    fn with<R>(&self, section: impl FnOnce(&mut T) -> R) -> R;
}

/// The bios that wait for one generation: an intrusive list, or whatever holds
/// handles without allocating.
pub trait Bios: Default {
    /// Handle of one bio; whoever holds it must end it.
    type Bio;

    /// Adds a bio.
    fn push(&mut self, bio: Self::Bio);

    /// Whether no bio is in the list.
    fn is_empty(&self) -> bool;

    /// A list of the same bios, in test builds: for the fault that ends them twice, which the
    /// type of a bio's handle rules out elsewhere.
    #[cfg(test)]
    fn duplicate(&self) -> Self;
}

/// The places where tasks sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitQueue {
    /// Those who wait for the result of the slot with this index, 0 to N - 1.
    Slot(usize),
    /// Those who wait for a slot to become free.
    FreeSlot,
    /// Whoever freezes or removes the device.
    Drain,
}

/// A buffer that the host gave back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// The token given to [`Platform::publish`].
    pub cookie: Cookie,
    /// Bytes the host says it wrote.
    pub len: u32,
}

/// Why a request did not go into the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No memory just now. The next flush may try again.
    NoMemory,
    /// The queue can't take it: broken, or full although nothing is in flight.
    Broken,
}

/// The system around the core: a kernel module, or a model of one.
///
/// Except for [`Platform::wait`], [`Platform::end`] and `new_lock`, everything is called with the
/// core's lock held, so it must neither sleep nor call back into the core.
pub trait Platform: Sized {
    /// The lock around the core's state (the kernel: a spinlock, interrupts off).
    type Lock<T>: Lock<T>;
    /// A list of bios.
    type Bios: Bios;

    /// Makes the core's lock.
    fn new_lock<T>(&self, value: T) -> Self::Lock<T>;

    /// Sleeps, uninterruptibly, until `ready` says true or the clock reaches
    /// `until`. The caller counts as woken by [`Platform::wake`] from before
    /// `ready` is called: what it does not see, it is woken for (the kernel's
    /// `wait_event`). `ready` takes the core's lock and may end bios.
    fn wait(&self, on: WaitQueue, until: Option<Ticks>, ready: impl FnMut() -> bool);

    /// Wakes all who sleep on a queue.
    fn wake(&self, on: WaitQueue);

    /// The time.
    fn now(&self) -> Ticks;

    /// Adds a request to the ring: its command readable, its status writable for
    /// the host, under this cookie. Must not allocate.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]; the request is then not in the ring.
    fn publish(&self, request: &Request, cookie: Cookie) -> Result<(), Refusal>;

    /// Tells the host that the ring has something new. False if that failed.
    fn kick(&self) -> bool;

    /// Takes the next buffer that the host gave back.
    fn next_used(&self) -> Option<Used>;

    /// After a reset: takes a buffer that the ring still holds.
    fn detach(&self) -> Option<Cookie>;

    /// Whether the ring core has marked the queue broken. Cheap: asked after each
    /// completion.
    fn queue_broken(&self) -> bool;

    /// What the device status says is wrong, if anything: [`Cause::NeedsReset`], or
    /// [`Cause::Down`] without DRIVER_OK. May cost a VM exit: asked, while there is a queue, by
    /// the watchdog, while a freeze waits, and when removal begins.
    fn trouble(&self) -> Option<Cause>;

    /// Starts the watchdog: [`FlushCore::watchdog`](crate::FlushCore::watchdog) is to be called, again and
    /// again, until it returns false.
    fn arm_watchdog(&self);

    /// Ends all bios of a list with a result, each exactly once. Called without the lock, in
    /// any context that calls the core, interrupts included.
    fn end(&self, bios: Self::Bios, result: Result<(), Error>);

    /// The device has turned Broken: tells the user, once.
    fn broke(&self, cause: Cause);
}
