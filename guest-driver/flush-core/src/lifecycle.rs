// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! The device's life: start, freeze and thaw, failure, removal, reset.

use crate::error::{Cause, Error};
use crate::flush_core::{FlushCore, Shared};

use crate::platform::{Platform, Ticks, WaitQueue};
use crate::state::{Bound, Device, Phase, SlotId};

impl<P: Platform, const N: usize> FlushCore<P, N> {
    /// The queue is up and DRIVER_OK is set: goes Live and sends out what waits.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`], [`Error::Gone`], or [`Error::WrongState`] if the device is already up.
    pub fn thaw(&self) -> Result<(), Error> {
        self.run(|state| {
            let outcome = match state.device {
                Device::Frozen => Ok(()),
                Device::Draining if mutant!("thaws-while-draining") => Ok(()),
                Device::Live | Device::Draining => Err(Error::WrongState),
                Device::Broken => Err(Error::Broken),
                Device::Gone => Err(Error::Gone),
            };
            if outcome.is_ok() {
                state.ring = true;
                state.device = Device::Live;
                if !mutant!("thaw-forgets-parked") {
                    self.pump(state);
                }
            }
            outcome
        })
    }

    /// Stops publishing and waits, for `timeout` at most, until what is in flight has been
    /// answered. Then the device is Frozen and its queue may be deleted; flushes wait for the thaw.
    ///
    /// The device is looked at every `poll`, because config interrupts are off while the
    /// system suspends.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] at the deadline: the device is Live again and what waited
    /// goes out; the suspend is to be called off, no thaw follows.
    /// [`Error::Broken`] if the device is or turns Broken, [`Error::Gone`] if it is gone,
    /// [`Error::WrongState`] if it is draining already. A Frozen device stays so, which is no error.
    pub fn freeze(&self, timeout: Ticks, poll: Ticks) -> Result<(), Error> {
        self.run(|state| match state.device {
            Device::Live => {
                state.device = Device::Draining;
                Ok(())
            }
            // Frozen already: there is nothing to drain.
            Device::Frozen if !mutant!("second-freeze-refused") => Ok(()),
            Device::Frozen | Device::Draining => Err(Error::WrongState),
            Device::Broken => Err(Error::Broken),
            Device::Gone => Err(Error::Gone),
        })?;
        self.drain(timeout, poll, |state, expired| match state.device {
            Device::Broken => Some(Err(Error::Broken)),
            Device::Gone => Some(Err(Error::Gone)),
            _ if state.in_flight.is_none() || mutant!("freeze-does-not-drain") => {
                state.device = Device::Frozen;
                state.ring = false;
                Some(Ok(()))
            }
            _ if expired => {
                if !mutant!("freeze-timeout-stays-draining") {
                    state.device = Device::Live;
                    self.pump(state);
                }
                Some(Err(Error::Busy))
            }
            _ => None,
        })
    }

    /// Something about the device has changed (a configuration interrupt): looks at it.
    pub fn changed(&self) {
        self.run(|state| self.look(state));
    }

    /// The device has failed, as the platform found out by itself (it could not be brought
    /// back after a suspend, say).
    pub fn mark_broken(&self, cause: Cause) {
        self.run(|state| {
            self.break_device(state, cause);
        });
    }

    /// Looks at the ring, the device's status and the clock. To be called every now and then
    /// from [`Platform::arm_watchdog`] on, until it returns false.
    ///
    /// What the host has answered is taken first, so that a lost interrupt is
    /// not mistaken for a silent host; it counts as rescued.
    pub fn watchdog(&self) -> bool {
        self.run(|state| {
            let answered = state.answered;
            self.look(state);
            let found = state.answered.wrapping_sub(answered);
            if !mutant!("rescue-not-counted") {
                state.counters.rescued = state.counters.rescued.wrapping_add(found);
            }
            state.watched = state.in_flight.is_some();
            state.watched
        })
    }

    /// Removal begins. A bad device turns Broken at once, as no one would call back for a
    /// device that was pulled out; and so does a Frozen one, as no one will thaw it. A good one
    /// stays Live, so that the last flush of whoever uses it succeeds; from now on the host may be
    /// silent for `bound` at most, as after [`FlushCore::limit`].
    ///
    /// Next: unregister the region, then [`FlushCore::finish_remove`].
    pub fn begin_remove(&self, bound: Ticks) {
        self.run(|state| {
            if !mutant!("remove-does-not-look") {
                self.look(state);
            }
            if state.device == Device::Frozen && !mutant!("remove-waits-for-a-thaw") {
                self.break_device(state, Cause::NotThawed);
            }
            if mutant!("remove-breaks-first") {
                self.break_device(state, Cause::QueueBroken);
            }
            self.bound(state, bound);
        });
    }

    /// The system is about to go down. Flushes still go out, but from now on the host may be silent
    /// for `bound` at most: what it has been silent before does not count.
    pub fn limit(&self, bound: Ticks) {
        self.run(|state| self.bound(state, bound));
    }

    fn bound(&self, state: &mut Shared<P, N>, length: Ticks) {
        if !mutant!("remove-is-unbounded") {
            state.bound = Some(Bound {
                since: self.platform.now(),
                length: length.max(1),
            });
        }
    }

    /// Waits, for `timeout` at most, for what is in flight. Then the device is Gone: every waiter
    /// and every later flush fails. Also the whole of a shutdown.
    ///
    /// Next: reset the device, then [`FlushCore::after_reset`].
    pub fn finish_remove(&self, timeout: Ticks, poll: Ticks) {
        self.run(|state| {
            if state.device == Device::Live {
                state.device = Device::Draining;
            }
        });
        self.drain(timeout, poll, |state, expired| {
            if state.device == Device::Draining && state.in_flight.is_some() && !expired {
                return None;
            }
            state.device = Device::Gone;
            if !mutant!("gone-forgets-waiters") {
                self.fail_all(state, Error::Gone, Error::Gone);
            }
            Some(())
        });
    }

    /// The device has been reset, and its queue still exists: takes back what was in
    /// the ring. A Broken device becomes Frozen: it can be set up and thawed.
    ///
    /// # Errors
    ///
    /// [`Error::WrongState`] if the device is Live or Draining: nothing changes.
    pub fn after_reset(&self) -> Result<(), Error> {
        self.run(|state| {
            if matches!(state.device, Device::Live | Device::Draining) {
                return Err(Error::WrongState);
            }
            if state.ring {
                while self.platform.detach().is_some() {}
            }
            state.ring = false;
            for index in 0..N {
                let Some(slot) = state.slots.get_mut(index) else {
                    continue;
                };
                if slot.phase.is_hosts() {
                    slot.phase = Phase::Detached;
                    self.release(state, SlotId(index));
                }
            }
            if state.device == Device::Broken {
                state.device = Device::Frozen;
            }
            Ok(())
        })
    }

    /// Waits until no caller is left inside a core that is Gone. It may be
    /// freed once its interrupts and its watchdog have ended too.
    pub fn wait_idle(&self) {
        self.platform.wait(WaitQueue::Drain, None, || {
            self.locked(|state| state.users == 0 || mutant!("freed-under-callers"))
        });
    }

    /// Calls `step` after each look at the device until it has a value, with whether `timeout`
    /// has passed.
    fn drain<R>(
        &self,
        timeout: Ticks,
        poll: Ticks,
        mut step: impl FnMut(&mut Shared<P, N>, bool) -> Option<R>,
    ) -> R {
        let deadline = self.platform.now().saturating_add(timeout);
        loop {
            let (now, done) = self.run(|state| {
                self.look(state);
                let now = self.platform.now();
                (now, step(state, now >= deadline))
            });
            if let Some(value) = done {
                return value;
            }
            let until = now.saturating_add(poll.max(1)).min(deadline);
            self.platform.wait(WaitQueue::Drain, Some(until), || {
                self.locked(|state| state.device != Device::Draining || state.in_flight.is_none())
            });
        }
    }

    /// Takes what was answered, then judges the device.
    fn look(&self, state: &mut Shared<P, N>) {
        if !state.ring {
            return;
        }
        if !mutant!("look-does-not-reap") {
            self.reap(state);
        }
        match self.platform.trouble() {
            Some(cause) if !mutant!("bad-status-ignored") => self.break_device(state, cause),
            _ => {}
        }
        if state.is_overdue(self.platform.now()) {
            self.break_device(state, Cause::Silent);
        }
    }
}
