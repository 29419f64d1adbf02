// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! How a flush comes in, waits and leaves.

use crate::error::Error;
use crate::flush_core::{FlushCore, Shared};
use crate::platform::{Bios, Platform, WaitQueue};
use crate::state::{Device, Slot, SlotId};

/// How an attempt to join a generation went.
enum Seat {
    /// In this slot.
    In(SlotId),
    /// Not at all: the device is Broken or Gone.
    Refused(Error),
    /// Not yet: all slots are in use.
    Starved,
}

impl<P: Platform, const N: usize> FlushCore<P, N> {
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
                if mutant!("wakes-after-release") {
                    self.platform.wake(WaitQueue::Drain);
                }
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
            Err(error) => {
                state.counters.flushes = state.counters.flushes.wrapping_add(1);
                if !mutant!("refusal-not-counted") {
                    state.counters.errors = state.counters.errors.wrapping_add(1);
                }
                return Seat::Refused(error);
            }
        };
        if let Some(slot) = state.slots.get_mut(id.0) {
            slot.joined = slot.joined.wrapping_add(1);
            add(slot);
        }
        state.counters.flushes = state.counters.flushes.wrapping_add(1);
        self.pump(state);
        Seat::In(id)
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

    /// A caller is out: of a core that is Gone, the last one lets it be freed. Called
    /// when the caller has nothing left to end and is out of [`Platform::wait`], whose
    /// wait queue may be freed with the core.
    fn leave(&self, state: &mut Shared<P, N>) {
        state.users = state.users.wrapping_sub(1);
        if state.device == Device::Gone && state.users == 0 && !mutant!("wakes-after-release") {
            self.platform.wake(WaitQueue::Drain);
        }
    }
}
