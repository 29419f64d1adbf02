// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! A platform for one thread: what would block plays the next steps of a script instead.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::ptr;
use std::rc::{Rc, Weak};
use std::vec::Vec;

use super::steps::{Answer, Refused, Step};
use crate::state::{Device, SlotId};
use crate::sync::Ordering;
use crate::{
    Bios, Cause, Cookie, Error, FlushCore, Lock, Platform, Refusal, Request, Ticks, Used, WaitQueue,
};

/// Slots of the core under test: few, so that they run out.
pub(super) const SLOTS: usize = 3;

pub(super) type Core = FlushCore<Fake, SLOTS>;

/// A request in the ring.
#[derive(Clone, Copy, Debug)]
struct Entry {
    cookie: Cookie,
    address: usize,
}

#[derive(Debug, Default)]
pub(super) struct Fake {
    core: OnceCell<Weak<Core>>,
    up: Cell<bool>,
    held: RefCell<VecDeque<Entry>>,
    used: RefCell<VecDeque<Used>>,
    last: Cell<Cookie>,
    clock: Cell<Ticks>,
    broken: Cell<bool>,
    needs_reset: Cell<bool>,
    kick_fails: Cell<bool>,
    refuse: Cell<Option<Refused>>,
    /// What happens while someone sleeps.
    script: RefCell<VecDeque<Step>>,
    /// Waiters by number: their slot, for tasks, and their result.
    tasks: RefCell<Vec<(usize, SlotId)>>,
    waiters: Cell<usize>,
    pub(super) ended: RefCell<Vec<(usize, Result<(), Error>)>>,
    pub(super) events: Cell<usize>,
}

/// A core on a fake, started.
pub(super) fn live(flush_timeout: Ticks) -> Rc<Core> {
    let core = Rc::new(FlushCore::new(Fake::default(), flush_timeout));
    let weak = Rc::downgrade(&core);
    core.platform().core.set(weak).unwrap();
    core.platform().up.set(true);
    core.thaw().unwrap();
    core
}

/// A result as the steps' outcome.
fn errno(result: Result<(), Error>) -> i32 {
    result.map_or_else(Error::errno, |()| 0)
}

/// Does one step; returns what the caller was told, as an errno.
pub(super) fn apply(core: &Core, step: &Step) -> i32 {
    let fake = core.platform();
    match step {
        Step::Task => match core.try_flush() {
            None => -1000,
            Some(Err(error)) => error.errno(),
            Some(Ok(id)) => {
                fake.tasks.borrow_mut().push((fake.next_waiter(), id));
                0
            }
        },
        Step::Bio => {
            if core.would_starve() {
                return -1000;
            }
            // Its number is settled first, as it may end at once.
            let number = fake.next_waiter();
            let outcome = core.flush_bio(number);
            if outcome.is_err() {
                fake.waiters.set(number);
            }
            errno(outcome.map_err(|(error, _)| error))
        }
        Step::Collect => {
            let tasks = fake.tasks.take();
            for (number, id) in tasks {
                match core.try_collect(id) {
                    Some(result) => fake.ended.borrow_mut().push((number, result)),
                    None => fake.tasks.borrow_mut().push((number, id)),
                }
            }
            0
        }
        Step::Host(answer) => {
            fake.answer(core, *answer);
            core.used();
            0
        }
        Step::Lost(answer) => {
            // An answer whose interrupt never comes.
            fake.answer(core, *answer);
            0
        }
        Step::Pass(ticks) => {
            fake.clock.set(fake.clock.get() + ticks);
            0
        }
        Step::Watchdog => i32::from(core.watchdog()),
        Step::NeedsReset => {
            fake.needs_reset.set(fake.up.get());
            0
        }
        Step::BreakQueue => {
            fake.broken.set(fake.up.get());
            0
        }
        Step::FailKicks(fail) => {
            fake.kick_fails.set(*fail);
            0
        }
        Step::Refuse(refused) => {
            fake.refuse.set(*refused);
            0
        }
        Step::MarkBroken => {
            core.mark_broken(Cause::NeedsReset);
            0
        }
        Step::Freeze(timeout, script) => {
            fake.script.replace(script.iter().cloned().collect());
            let outcome = core.freeze(*timeout, 3);
            if outcome.is_ok() {
                assert!(fake.held.borrow().is_empty(), "frozen with a request held");
                fake.stop();
            }
            errno(outcome)
        }
        Step::Thaw => {
            if core.device() == Device::Frozen {
                fake.up.set(true);
            }
            errno(core.thaw())
        }
        Step::Reset => {
            if !matches!(core.device(), Device::Live | Device::Draining) {
                fake.stop();
            }
            errno(core.after_reset())
        }
        Step::BeginRemove(bound) => {
            core.begin_remove(*bound);
            0
        }
        Step::Limit(bound) => {
            core.limit(*bound);
            0
        }
        Step::FinishRemove(timeout, script) => {
            fake.script.replace(script.iter().cloned().collect());
            core.finish_remove(*timeout, 3);
            0
        }
    }
}

impl Fake {
    pub(super) fn held(&self) -> usize {
        self.held.borrow().len()
    }

    fn next_waiter(&self) -> usize {
        self.waiters.replace(self.waiters.get() + 1)
    }

    /// Reset: nothing is in the ring for the host any more.
    fn stop(&self) {
        self.up.set(false);
        self.used.borrow_mut().clear();
        self.broken.set(false);
        self.needs_reset.set(false);
        self.kick_fails.set(false);
    }

    /// The host gives back its oldest request, or pretends to.
    fn answer(&self, core: &Core, answer: Answer) {
        if !self.up.get() {
            return;
        }
        let (cookie, len) = match answer {
            Answer::Status(status, len) => {
                let used = self.used.borrow();
                let given = |entry: &&Entry| used.iter().any(|used| used.cookie == entry.cookie);
                let held = self.held.borrow();
                let Some(entry) = held.iter().find(|entry| !given(entry)).copied() else {
                    return;
                };
                if let Some(status) = status {
                    let request = core.request_at(entry.address);
                    request.status().store(status.to_le(), Ordering::Relaxed);
                }
                assert!(
                    core.is_hosts(entry.cookie),
                    "the host's request was released"
                );
                (entry.cookie, len)
            }
            Answer::Unknown => (usize::MAX, 4),
            Answer::Repeated if self.last.get() == 0 => return,
            Answer::Repeated => (self.last.get(), 4),
        };
        self.used.borrow_mut().push_back(Used { cookie, len });
    }
}

impl Platform for Fake {
    type Lock<T> = Section<T>;
    type Bios = Handles;

    fn new_lock<T>(&self, value: T) -> Section<T> {
        Section(RefCell::new(value))
    }

    fn wait(&self, _: WaitQueue, until: Option<Ticks>, mut ready: impl FnMut() -> bool) {
        let core = self.core.get().unwrap().upgrade().unwrap();
        while !ready() {
            let until = until.expect("one thread only: nobody would wake it");
            if self.clock.get() >= until {
                return;
            }
            let step = self.script.borrow_mut().pop_front();
            match step {
                Some(step) => {
                    apply(&core, &step);
                }
                None => self.clock.set(until),
            }
        }
    }

    fn wake(&self, _: WaitQueue) {}

    fn now(&self) -> Ticks {
        self.clock.get()
    }

    fn publish(&self, request: &Request, cookie: Cookie) -> Result<(), Refusal> {
        assert!(self.up.get(), "published without a running queue");
        match self.refuse.take() {
            Some(Refused::NoMemory) => return Err(Refusal::NoMemory),
            Some(Refused::Broken) => return Err(Refusal::Broken),
            None => {}
        }
        let address = ptr::from_ref(request).addr();
        let mut held = self.held.borrow_mut();
        let reused = held.iter().any(|held| held.address == address);
        assert!(!reused, "published a request that is in the ring");
        held.push_back(Entry { cookie, address });
        Ok(())
    }

    fn kick(&self) -> bool {
        assert!(self.up.get(), "kicked without a running queue");
        !self.kick_fails.get()
    }

    fn next_used(&self) -> Option<Used> {
        let used = self.used.borrow_mut().pop_front()?;
        self.last.set(used.cookie);
        self.held
            .borrow_mut()
            .retain(|held| held.cookie != used.cookie);
        Some(used)
    }

    fn detach(&self) -> Option<Cookie> {
        assert!(!self.up.get(), "detached from a live queue");
        Some(self.held.borrow_mut().pop_front()?.cookie)
    }

    fn queue_broken(&self) -> bool {
        self.broken.get()
    }

    fn trouble(&self) -> Option<Cause> {
        self.needs_reset.get().then_some(Cause::NeedsReset)
    }

    fn arm_watchdog(&self) {}

    fn end(&self, bios: Handles, result: Result<(), Error>) {
        for bio in bios.0 {
            let mut ended = self.ended.borrow_mut();
            let again = ended.iter().any(|(other, _)| *other == bio);
            assert!(!again, "a bio ended twice");
            ended.push((bio, result));
        }
    }

    fn broke(&self, _: Cause) {
        self.events.set(self.events.get() + 1);
    }
}

/// A lock that fails when sections nest.
#[derive(Debug)]
pub(super) struct Section<T>(RefCell<T>);

impl<T> Lock<T> for Section<T> {
    fn with<R>(&self, section: impl FnOnce(&mut T) -> R) -> R {
        section(&mut self.0.borrow_mut())
    }
}

/// Bios by number.
#[derive(Debug, Default)]
pub(super) struct Handles(Vec<usize>);

impl Bios for Handles {
    type Bio = usize;

    fn push(&mut self, bio: usize) {
        self.0.push(bio);
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }
}
