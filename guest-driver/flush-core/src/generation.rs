// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! How a generation goes out, is answered, and ends.

use crate::error::{Cause, Error};
use crate::flush_core::{FlushCore, Shared};
#[cfg(test)]
use crate::mutation;
use crate::platform::{Platform, Refusal, Used, WaitQueue};
use crate::state::{Device, Phase, SlotId};

impl<P: Platform, const N: usize> FlushCore<P, N> {
    /// Handles what the host gave back: the virtqueue's callback.
    pub fn used(&self) {
        self.run(|state| self.reap(state));
    }

    /// Publishes the Parked generation if the device is Live and nothing is in flight.
    pub(crate) fn pump(&self, state: &mut Shared<P, N>) {
        let live = state.device == Device::Live
            || mutant!("publishes-while-draining") && state.device == Device::Draining
            || mutant!("publishes-while-frozen") && state.device == Device::Frozen;
        if !live || state.in_flight.is_some() {
            return;
        }
        let Some(id) = state.parked.take() else {
            return;
        };
        let cookie = state.next_cookie();
        let (Some(slot), Some(request)) = (state.slots.get_mut(id.0), self.requests.get(id.0))
        else {
            return;
        };
        #[cfg(test)]
        mutation::allocate();
        request.prepare();
        match self.platform.publish(request, cookie) {
            Ok(()) => {}
            Err(Refusal::NoMemory) => {
                self.settle(state, id, Phase::Completed, Err(Error::NoMemory));
                return;
            }
            Err(Refusal::Broken) => {
                self.settle(state, id, Phase::Completed, Err(Error::Broken));
                self.break_device(state, Cause::AddFailed);
                return;
            }
        }
        slot.phase = Phase::Published;
        slot.cookie = cookie;
        slot.since = self.platform.now();
        let shared = slot.joined.wrapping_sub(1);
        state.submitted = slot.generation;
        state.in_flight = Some(id);
        state.counters.host_flushes = state.counters.host_flushes.wrapping_add(1);
        state.counters.coalesced = state.counters.coalesced.wrapping_add(shared);
        if !state.watched && !mutant!("watchdog-not-armed") {
            state.watched = true;
            self.platform.arm_watchdog();
        }
        if !self.platform.kick() && !mutant!("failed-kick-ignored") {
            self.break_device(state, Cause::KickFailed);
        }
    }

    /// Takes everything that the host gave back.
    pub(crate) fn reap(&self, state: &mut Shared<P, N>) {
        if !state.ring {
            return;
        }
        while let Some(used) = self.platform.next_used() {
            if !self.complete(state, used) {
                self.break_device(state, Cause::BadCookie);
                return;
            }
        }
        if self.platform.queue_broken() && !mutant!("broken-queue-ignored") {
            self.break_device(state, Cause::QueueBroken);
        }
    }

    /// Ends the generation of a used buffer and sends out the next. False if
    /// the ring was never given that buffer, or has given it back before.
    fn complete(&self, state: &mut Shared<P, N>, used: Used) -> bool {
        let Some(id) = state.find(used.cookie) else {
            return mutant!("unknown-cookie-ignored");
        };
        let (Some(slot), Some(request)) = (state.slots.get_mut(id.0), self.requests.get(id.0))
        else {
            return false;
        };
        if slot.phase == Phase::Abandoned {
            // Too late: its waiters have their error.
            slot.phase = Phase::Completed;
            self.release(state, id);
            return true;
        }
        state.in_flight = None;
        state.answered = state.answered.wrapping_add(1);
        self.settle(state, id, Phase::Completed, request.answer(used.len));
        self.pump(state);
        if state.device == Device::Draining {
            self.platform.wake(WaitQueue::Drain);
        }
        true
    }

    /// Gives a slot's waiters their result and wakes the tasks among them.
    pub(crate) fn settle(
        &self,
        state: &mut Shared<P, N>,
        id: SlotId,
        phase: Phase,
        result: Result<(), Error>,
    ) {
        let Some(slot) = state.slots.get_mut(id.0) else {
            return;
        };
        slot.phase = phase;
        slot.result = Some(result);
        if result.is_err() {
            state.counters.errors = state.counters.errors.wrapping_add(slot.joined);
        }
        if slot.tasks > 0 && !mutant!("completion-wakes-nobody") {
            self.platform.wake(WaitQueue::Slot(id.0));
        }
        self.release(state, id);
    }

    /// Frees a slot that nobody needs any more.
    pub(crate) fn release(&self, state: &mut Shared<P, N>, id: SlotId) {
        let Some(slot) = state.slots.get_mut(id.0) else {
            return;
        };
        if !slot.is_idle() {
            return;
        }
        slot.phase = Phase::Free;
        if state.starved > 0 && !mutant!("free-slot-wakes-nobody") {
            self.platform.wake(WaitQueue::FreeSlot);
        }
    }

    /// Turns the device Broken, once: every waiter fails, later flushes fail.
    pub(crate) fn break_device(&self, state: &mut Shared<P, N>, cause: Cause) {
        if matches!(state.device, Device::Broken | Device::Gone) {
            return;
        }
        state.device = Device::Broken;
        if matches!(cause, Cause::Silent | Cause::SilentUntilReset) {
            state.counters.timeouts = state.counters.timeouts.wrapping_add(1);
        }
        self.fail_all(state, cause.error(), Error::Broken);
        if mutant!("broken-detaches") {
            while self.platform.detach().is_some() {}
        }
        self.platform.broke(cause);
    }

    /// Fails every waiter: the generation in flight with one error, the rest with
    /// the other.
    pub(crate) fn fail_all(&self, state: &mut Shared<P, N>, in_flight: Error, rest: Error) {
        if let Some(id) = state.in_flight.take() {
            self.settle(state, id, Phase::Abandoned, Err(in_flight));
        }
        let parked = if mutant!("broken-forgets-parked") {
            None
        } else {
            state.parked.take()
        };
        if let Some(id) = parked {
            self.settle(state, id, Phase::Completed, Err(rest));
        }
        if state.starved > 0 && !mutant!("broken-starves") {
            self.platform.wake(WaitQueue::FreeSlot);
        }
        self.platform.wake(WaitQueue::Drain);
    }
}
