// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! Group commit: how a flush joins a generation, how a generation goes out, and
//! how it ends.

use core::array;

use crate::counters::Counters;
use crate::error::{Cause, Error};
#[cfg(test)]
use crate::mutation;
use crate::platform::{Bios, Event, Lock, Platform, Refusal, Ticks, Used, WaitQueue};
use crate::request::Request;
use crate::state::{Device, Phase, Slot, SlotId, State};

/// The state under the lock, for a platform.
pub(crate) type Shared<P, const N: usize> = State<<P as Platform>::Bios, N>;

/// How an attempt to join a generation went.
enum Seat {
    /// In this slot.
    In(SlotId),
    /// Not at all: the device is Broken or Gone.
    Refused(Error),
    /// Not yet: all slots are in use.
    Starved,
}

/// The core of one device, with N request slots.
///
/// Two slots keep the host busy; more let a new generation gather while tasks
/// of older ones have not yet been scheduled to read their result.
///
/// Blocking callers and bios are waiters of a *generation*. At most one generation
/// is in flight. A flush that arrives meanwhile waits for the next one, which is
/// published, for all who wait by then, as soon as the first is answered.
///
/// # Invariants
///
/// 1. A slot is used again only when the host has given it back (or was reset)
///    and each of its waiters has its result; waiters are woken before that.
/// 2. A used buffer gives back exactly one slot that is in the ring; any other
///    cookie turns the device Broken.
/// 3. Each waiter ends exactly once, and is woken for it.
/// 4. Nobody sleeps once the device is Broken or Gone.
/// 5. A flush succeeds only if a request published after it arrived came back with a status
///    of 0 and a length of at least 4.
/// 6. The ring is added to and kicked only while Live, which a device is after
///    DRIVER_OK only; buffers are detached only after a reset.
/// 7. Frozen means that nothing is Published; what waits, waits without error
///    until the device is Live again.
/// 8. A device found bad at removal is Broken before anyone waits for it. While
///    something is Published, the watchdog runs.
/// 9. Nothing here allocates.
///
/// # Who may call what
///
/// `flush`, `flush_bio`, `counters` and `device`: anyone, at any time until the region is gone. `used`,
/// `watchdog` and `mark_broken`: any context, interrupts included, as long as the
/// platform ends these contexts (queues deleted, watchdog cancelled) before
/// it frees the core. Changes of state (`thaw`, `freeze`, `begin_remove`,
/// `finish_remove`, `after_reset`, `wait_idle`): one task at a time.
#[derive(Debug)]
pub struct FlushCore<P: Platform, const N: usize> {
    pub(crate) platform: P,
    pub(crate) requests: [Request; N],
    state: P::Lock<Shared<P, N>>,
}

impl<P: Platform, const N: usize> FlushCore<P, N> {
    /// A core that is Frozen: flushes wait until [`FlushCore::thaw`].
    ///
    /// `flush_timeout` is how long the host may leave a request unanswered; 0
    /// for as long as it likes.
    pub fn new(platform: P, flush_timeout: Ticks) -> Self {
        let state = platform.new_lock(State::new(flush_timeout));
        Self {
            platform,
            requests: array::from_fn(|_| Request::new()),
            state,
        }
    }

    /// The platform that the core runs on.
    pub const fn platform(&self) -> &P {
        &self.platform
    }

    /// Where the device stands.
    pub fn device(&self) -> Device {
        self.locked(|state| state.device)
    }

    /// What has been counted so far.
    pub fn counters(&self) -> Counters {
        self.locked(|state| {
            let parked = state.parked.and_then(|id| state.slots.get(id.0));
            Counters {
                in_flight: u64::from(state.in_flight.is_some()),
                parked: parked.map_or(0, |slot| slot.joined),
                ..state.counters
            }
        })
    }

    /// Flushes: sleeps until a host flush published after this call has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] or [`Error::Short`] for what the host answered; [`Error::NoMemory`],
    /// [`Error::Broken`], [`Error::TimedOut`], [`Error::Gone`].
    pub fn flush(&self) -> Result<(), Error> {
        let id = self.join(|slot| slot.tasks = slot.tasks.wrapping_add(1))?;
        loop {
            self.platform.wait(WaitQueue::Slot(id.0), None, || {
                self.locked(|state| state.result(id).is_some())
            });
            if let Some(result) = self.locked(|state| self.collect(state, id)) {
                return result;
            }
        }
    }

    /// Flushes for a bio: it is ended, by [`Platform::end`], when a host flush
    /// published after this call has ended. Sleeps only if no slot is free.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] or [`Error::Gone`], with the bio: it was not taken and the caller ends it.
    pub fn flush_bio(
        &self,
        bio: <P::Bios as Bios>::Bio,
    ) -> Result<(), (Error, <P::Bios as Bios>::Bio)> {
        let mut bio = Some(bio);
        let joined = self.join(|slot| {
            if let Some(bio) = bio.take() {
                slot.bios.push(bio);
            }
        });
        match (joined, bio) {
            (Err(error), Some(bio)) => Err((error, bio)),
            _ => {
                self.locked(|state| self.leave(state));
                Ok(())
            }
        }
    }

    /// Handles what the host gave back: the virtqueue's callback.
    pub fn used(&self) {
        self.run(|state| self.reap(state));
    }

    /// Runs a section with the lock held.
    pub(crate) fn locked<R>(&self, section: impl FnOnce(&mut Shared<P, N>) -> R) -> R {
        self.state.with(section)
    }

    /// Runs a section with the lock held, then ends, without the lock, the bios
    /// that have got their result.
    pub(crate) fn run<R>(&self, section: impl FnOnce(&mut Shared<P, N>) -> R) -> R {
        let (value, mut ended) = self.locked(|state| (section(state), self.take_ended(state)));
        while let Some((bios, result)) = ended {
            self.platform.end(bios, result);
            ended = self.locked(|state| self.take_ended(state));
        }
        value
    }

    /// Takes the bios of one settled slot.
    fn take_ended(&self, state: &mut Shared<P, N>) -> Option<(P::Bios, Result<(), Error>)> {
        let (id, bios, result) = state.take_bios()?;
        self.release(state, id);
        Some((bios, result))
    }

    /// Enters the core and joins the next generation, which goes out if nothing is in flight.
    /// `add` is called once, with the slot, when there is one. After an error the caller
    /// has left, else it leaves by itself.
    pub(crate) fn join(&self, mut add: impl FnMut(&mut Slot<P::Bios>)) -> Result<SlotId, Error> {
        let mut seat = self.run(|state| {
            state.users = state.users.wrapping_add(1);
            let seat = self.sit(state, &mut add);
            if matches!(seat, Seat::Starved) {
                state.starved = state.starved.wrapping_add(1);
            }
            seat
        });
        loop {
            match seat {
                Seat::In(id) => return Ok(id),
                Seat::Refused(error) => {
                    self.locked(|state| self.leave(state));
                    return Err(error);
                }
                Seat::Starved => self.platform.wait(WaitQueue::FreeSlot, None, || {
                    if matches!(seat, Seat::Starved) {
                        seat = self.run(|state| {
                            let seat = self.sit(state, &mut add);
                            if !matches!(seat, Seat::Starved) {
                                state.starved = state.starved.wrapping_sub(1);
                            }
                            seat
                        });
                    }
                    !matches!(seat, Seat::Starved)
                }),
            }
        }
    }

    /// One attempt to join.
    fn sit(&self, state: &mut Shared<P, N>, add: impl FnOnce(&mut Slot<P::Bios>)) -> Seat {
        let id = match state.park() {
            Ok(Some(id)) => id,
            Ok(None) => return Seat::Starved,
            Err(error) => return Seat::Refused(error),
        };
        if let Some(slot) = state.slots.get_mut(id.0) {
            slot.joined = slot.joined.wrapping_add(1);
            add(slot);
        }
        state.counters.flushes = state.counters.flushes.wrapping_add(1);
        self.pump(state);
        Seat::In(id)
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

    /// A task takes its result, if there is one, and leaves.
    pub(crate) fn collect(
        &self,
        state: &mut Shared<P, N>,
        id: SlotId,
    ) -> Option<Result<(), Error>> {
        let slot = state.slots.get_mut(id.0)?;
        let result = slot.result?;
        slot.tasks = slot.tasks.wrapping_sub(1);
        self.release(state, id);
        self.leave(state);
        Some(result)
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

    /// A caller is out: of a core that is Gone, the last one lets it be freed. Called
    /// when the caller has nothing left to end and is out of [`Platform::wait`], whose
    /// wait queue may be freed with the core.
    fn leave(&self, state: &mut Shared<P, N>) {
        state.users = state.users.wrapping_sub(1);
        if state.device == Device::Gone && state.users == 0 {
            self.platform.wake(WaitQueue::Drain);
        }
    }

    /// Turns the device Broken, once: every waiter fails, later flushes fail.
    pub(crate) fn break_device(&self, state: &mut Shared<P, N>, cause: Cause) {
        if matches!(state.device, Device::Broken | Device::Gone) {
            return;
        }
        state.device = Device::Broken;
        if cause == Cause::Silent {
            state.counters.timeouts = state.counters.timeouts.wrapping_add(1);
        }
        self.fail_all(state, cause.error(), Error::Broken);
        if mutant!("broken-detaches") {
            while self.platform.detach().is_some() {}
        }
        self.platform.report(Event::Broke(cause));
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
