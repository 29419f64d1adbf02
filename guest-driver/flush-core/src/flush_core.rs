// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! The core of a device: what it owns, and how its lock is used.

use core::array;

use crate::counters::Counters;
use crate::error::Error;
use crate::platform::{Lock, Platform, Ticks};
use crate::request::Request;
use crate::state::{Device, State};

/// The state under the lock, for a platform.
pub(crate) type Shared<P, const N: usize> = State<<P as Platform>::Bios, N>;

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
/// 8. A device found bad or Frozen at removal is Broken before anyone waits for it. While
///    something is Published, the watchdog runs.
/// 9. Nothing here allocates.
///
/// # Who may call what
///
/// `flush`, `flush_bio`, `counters` and `device`: anyone, at any time until the region is gone. `used`,
/// `changed`, `watchdog` and `mark_broken`: any context, interrupts included, as long as the
/// platform ends these contexts (queues deleted, watchdog cancelled) before
/// it frees the core. Changes of state (`thaw`, `freeze`, `begin_remove`,
/// `finish_remove`, `after_reset`, `wait_idle`): one task at a time. `limit`: any task.
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
}
