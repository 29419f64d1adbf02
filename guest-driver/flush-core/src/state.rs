// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! The state behind the lock: the device, the generations and their slots.

use core::array;
use core::mem;

use crate::counters::Counters;
use crate::error::Error;
use crate::platform::{Bios, Cookie, Ticks};

/// Where the device stands.
///
/// Live → Draining → Frozen → Live; any → Broken → (reset) → Frozen → Live;
/// any → Gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// There is no usable queue: not started yet, or suspended. Flushes wait.
    Frozen,
    /// Flushes go out.
    Live,
    /// A freeze or a removal waits for what is in flight; flushes wait.
    Draining,
    /// Failed until it is reset. Flushes fail at once.
    Broken,
    /// Removed. Flushes fail at once.
    Gone,
}

/// Where a slot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody's.
    Free,
    /// Gathers the waiters of the next generation; not in the ring.
    Parked,
    /// In the ring; its waiters wait for the host.
    Published,
    /// In the ring; its waiters were told that it failed. The memory stays the
    /// host's until it answers or is reset.
    Abandoned,
    /// Given back by the host, or never in the ring; has its result.
    Completed,
    /// Taken back by a reset; has its result.
    Detached,
}

impl Phase {
    /// Whether the host may still read and write the slot's request.
    pub(crate) const fn is_hosts(self) -> bool {
        matches!(self, Self::Published | Self::Abandoned)
    }
}

/// Index of a slot: less than N.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotId(pub(crate) usize);

/// One generation of flushes: its waiters, and what they are told.
#[derive(Debug)]
pub(crate) struct Slot<B> {
    pub(crate) phase: Phase,
    /// The generation that the waiters wait for.
    pub(crate) generation: u64,
    /// The token in the ring, if the slot is the host's.
    pub(crate) cookie: Cookie,
    /// When it was published.
    pub(crate) since: Ticks,
    /// How many flushes share this generation.
    pub(crate) joined: u64,
    /// Tasks that have not read the result yet.
    pub(crate) tasks: u32,
    /// Bios that have not been taken out to be ended yet.
    pub(crate) bios: B,
    /// Set once per use of the slot.
    pub(crate) result: Option<Result<(), Error>>,
}

impl<B: Bios> Slot<B> {
    fn new() -> Self {
        Self {
            phase: Phase::Free,
            generation: 0,
            cookie: 0,
            since: 0,
            joined: 0,
            tasks: 0,
            bios: B::default(),
            result: None,
        }
    }

    /// Whether nobody needs the slot any more.
    pub(crate) fn is_idle(&self) -> bool {
        let back = matches!(self.phase, Phase::Completed | Phase::Detached)
            || mutant!("abandoned-slot-freed") && self.phase == Phase::Abandoned;
        back && self.tasks == 0 && self.bios.is_empty()
    }
}

/// How long the host may be silent from a time on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    /// When it was set: a silence from before does not count.
    pub(crate) since: Ticks,
    /// How long a silence may be; not 0.
    pub(crate) length: Ticks,
}

/// What the lock protects.
///
/// # Invariants
///
/// - `in_flight` is the one Published slot, `parked` the one Parked slot.
/// - A slot in the ring is Published or Abandoned, and the other way round.
/// - A Live device with a Parked slot has something in flight.
/// - Nothing is Published or Parked while Broken or Gone, nothing is Published
///   while Frozen.
#[derive(Debug)]
pub(crate) struct State<B, const N: usize> {
    pub(crate) device: Device,
    /// Whether a queue exists: from a thaw to a freeze or a reset.
    pub(crate) ring: bool,
    /// The last generation published.
    pub(crate) submitted: u64,
    pub(crate) in_flight: Option<SlotId>,
    pub(crate) parked: Option<SlotId>,
    pub(crate) slots: [Slot<B>; N],
    /// Cookie of the last publish.
    pub(crate) cookie: Cookie,
    /// Callers inside the core.
    pub(crate) users: u32,
    /// Callers that wait for a free slot.
    pub(crate) starved: u32,
    /// Whether the watchdog runs.
    pub(crate) watched: bool,
    /// Requests that the host answered in time.
    pub(crate) answered: u64,
    /// How long the host may leave a request unanswered; 0 for as long as it likes.
    pub(crate) flush_timeout: Ticks,
    /// The bound of a removal or a shutdown, once one has begun.
    pub(crate) bound: Option<Bound>,
    pub(crate) counters: Counters,
}

impl<B: Bios, const N: usize> State<B, N> {
    pub(crate) fn new(flush_timeout: Ticks) -> Self {
        Self {
            device: Device::Frozen,
            ring: false,
            submitted: 0,
            in_flight: None,
            parked: None,
            slots: array::from_fn(|_| Slot::new()),
            cookie: 0,
            users: 0,
            starved: 0,
            watched: false,
            answered: 0,
            flush_timeout,
            bound: None,
            counters: Counters::default(),
        }
    }

    /// The slot of a new flush: the Parked one, or a free one made Parked. None if
    /// every slot is in use.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] or [`Error::Gone`] if the device is.
    pub(crate) fn park(&mut self) -> Result<Option<SlotId>, Error> {
        match self.device {
            Device::Broken if !mutant!("broken-admits") => return Err(Error::Broken),
            Device::Gone => return Err(Error::Gone),
            _ => {}
        }
        if mutant!("joins-flush-in-flight") && self.in_flight.is_some() {
            return Ok(self.in_flight);
        }
        if self.parked.is_some() {
            return Ok(self.parked);
        }
        let free = self.slots.iter().position(|slot| slot.phase == Phase::Free);
        self.parked = free.map(SlotId);
        if let Some(slot) = self.parked.and_then(|id| self.slots.get_mut(id.0)) {
            slot.phase = Phase::Parked;
            slot.generation = self.submitted.wrapping_add(1);
            slot.joined = 0;
            slot.result = None;
        }
        Ok(self.parked)
    }

    /// Whether the host has been silent for too long about the request in flight.
    pub(crate) fn is_overdue(&self, now: Ticks) -> bool {
        let Some(slot) = self.in_flight.and_then(|id| self.slots.get(id.0)) else {
            return false;
        };
        let late = self.flush_timeout > 0 && now.saturating_sub(slot.since) >= self.flush_timeout;
        let bounded = self.bound.is_some_and(|bound| {
            let since = if mutant!("bound-counts-from-publish") {
                slot.since
            } else {
                bound.since.max(slot.since)
            };
            now.saturating_sub(since) >= bound.length
        });
        late || bounded
    }

    /// What the waiters of a slot are told, once that is known.
    pub(crate) fn result(&self, id: SlotId) -> Option<Result<(), Error>> {
        self.slots.get(id.0)?.result
    }

    /// The slot of a used buffer, if the ring was really given it.
    pub(crate) fn find(&self, cookie: Cookie) -> Option<SlotId> {
        let mine = |slot: &Slot<B>| {
            slot.cookie == cookie && (slot.phase.is_hosts() || mutant!("repeated-cookie-accepted"))
        };
        self.slots.iter().position(mine).map(SlotId)
    }

    /// Takes the bios of one slot that has its result.
    pub(crate) fn take_bios(&mut self) -> Option<(SlotId, B, Result<(), Error>)> {
        self.slots.iter_mut().enumerate().find_map(|(index, slot)| {
            let result = slot.result?;
            if slot.bios.is_empty() {
                return None;
            }
            #[cfg(test)]
            if mutant!("ended-bios-stay-listed") {
                return Some((SlotId(index), slot.bios.duplicate(), result));
            }
            Some((SlotId(index), mem::take(&mut slot.bios), result))
        })
    }

    /// A token that no buffer in the ring has: publishes would have to wrap
    /// around while one of them stays there.
    pub(crate) fn next_cookie(&mut self) -> Cookie {
        self.cookie = match self.cookie.wrapping_add(1) {
            0 => 1,
            next => next,
        };
        self.cookie
    }
}
