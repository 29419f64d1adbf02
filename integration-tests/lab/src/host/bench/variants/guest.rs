// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The guest's side: which flushes share a request, and when it goes out. One is flush-core itself;
//! the others follow its rule with a change.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use flush_core::{
    Bios, Cause, Cookie, FlushCore, Lock, Platform, Refusal, Request, Ticks, Used, WaitQueue,
};

/// A thread that flushes.
pub type Thread = usize;

/// What the guest's side wants done.
#[derive(Debug, Default)]
pub struct Wishes {
    /// Requests for the host, in order.
    pub published: Vec<Cookie>,
    /// Threads whose flush has ended.
    pub ended: Vec<Thread>,
    /// [`Guest::window_over`] is to be called after the window.
    pub window: bool,
}

/// Gathers flushes into requests.
pub trait Guest {
    /// A thread's flush comes in.
    fn flush(&mut self, thread: Thread);
    /// The host has answered a request.
    fn answered(&mut self, cookie: Cookie);
    /// The window that was wished for is over.
    fn window_over(&mut self);
    /// What is to be done now; the next call has only what is new.
    fn wishes(&mut self) -> Wishes;
}

/// A change of flush-core's rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rule {
    /// Requests that the host may have at once.
    pub in_flight: usize,
    /// Whether a request waits for others before it goes out.
    pub window: Window,
}

/// When a request that could go out waits a while for more flushes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Window {
    /// Never.
    None,
    /// Each time.
    Always,
    /// If the last request was shared.
    InCompany,
}

/// flush-core's rule, with a change.
#[derive(Debug)]
pub struct Model {
    rule: Rule,
    gathered: Vec<Thread>,
    in_flight: Vec<(Cookie, Vec<Thread>)>,
    last: Cookie,
    last_was_shared: bool,
    waits: bool,
    wishes: Wishes,
}

impl Model {
    /// Nothing in flight.
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            gathered: Vec::new(),
            in_flight: Vec::new(),
            last: 0,
            last_was_shared: false,
            waits: false,
            wishes: Wishes::default(),
        }
    }

    fn pump(&mut self, window_over: bool) {
        if self.gathered.is_empty() || self.in_flight.len() >= self.rule.in_flight || self.waits {
            return;
        }
        let wait = match self.rule.window {
            Window::None => false,
            Window::Always => true,
            Window::InCompany => self.last_was_shared || self.gathered.len() > 1,
        };
        if wait && !window_over {
            self.waits = true;
            self.wishes.window = true;
            return;
        }
        self.last += 1;
        self.last_was_shared = self.gathered.len() > 1;
        self.in_flight
            .push((self.last, mem::take(&mut self.gathered)));
        self.wishes.published.push(self.last);
    }
}

impl Guest for Model {
    fn flush(&mut self, thread: Thread) {
        self.gathered.push(thread);
        self.pump(false);
    }

    fn answered(&mut self, cookie: Cookie) {
        if let Some(at) = self.in_flight.iter().position(|(own, _)| *own == cookie) {
            let (_, threads) = self.in_flight.remove(at);
            self.wishes.ended.extend(threads);
        }
        self.pump(false);
    }

    fn window_over(&mut self) {
        self.waits = false;
        self.pump(true);
    }

    fn wishes(&mut self) -> Wishes {
        mem::take(&mut self.wishes)
    }
}

/// flush-core as it is; its waiters are bios, which end without a thread that sleeps.
pub struct Real {
    core: FlushCore<Simulated, 4>,
    shared: Rc<RefCell<Ring>>,
}

#[derive(Default)]
struct Ring {
    wishes: Wishes,
    used: VecDeque<Cookie>,
}

struct Simulated(Rc<RefCell<Ring>>);

impl Real {
    /// A device that is live.
    pub fn new() -> Self {
        let shared = Rc::default();
        let core = FlushCore::new(Simulated(Rc::clone(&shared)), 0);
        let thawed = core.thaw();
        debug_assert_eq!(thawed, Ok(()));
        Self { core, shared }
    }
}

impl Guest for Real {
    fn flush(&mut self, thread: Thread) {
        let taken = self.core.flush_bio(thread);
        debug_assert_eq!(taken, Ok(()));
    }

    fn answered(&mut self, cookie: Cookie) {
        self.shared.borrow_mut().used.push_back(cookie);
        self.core.used();
    }

    fn window_over(&mut self) {}

    fn wishes(&mut self) -> Wishes {
        mem::take(&mut self.shared.borrow_mut().wishes)
    }
}

struct Cell<T>(RefCell<T>);

impl<T> Lock<T> for Cell<T> {
    fn with<R>(&self, section: impl FnOnce(&mut T) -> R) -> R {
        section(&mut self.0.borrow_mut())
    }
}

#[derive(Default)]
struct Threads(Vec<Thread>);

impl Bios for Threads {
    type Bio = Thread;

    fn push(&mut self, thread: Thread) {
        self.0.push(thread);
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Platform for Simulated {
    type Lock<T> = Cell<T>;
    type Bios = Threads;

    fn new_lock<T>(&self, value: T) -> Cell<T> {
        Cell(RefCell::new(value))
    }

    fn wait(&self, _on: WaitQueue, _until: Option<Ticks>, mut ready: impl FnMut() -> bool) {
        // Bios need no sleeper, and each slot is free again as soon as it is answered.
        debug_assert!(ready(), "nobody would wake this");
    }

    fn wake(&self, _on: WaitQueue) {}

    fn now(&self) -> Ticks {
        0
    }

    fn publish(&self, request: &Request, cookie: Cookie) -> Result<(), Refusal> {
        // The host's answer will be success; nobody looks at it before.
        request.status().store(0, Ordering::Relaxed);
        self.0.borrow_mut().wishes.published.push(cookie);
        Ok(())
    }

    fn kick(&self) -> bool {
        true
    }

    fn next_used(&self) -> Option<Used> {
        let cookie = self.0.borrow_mut().used.pop_front()?;
        Some(Used { cookie, len: 4 })
    }

    fn detach(&self) -> Option<Cookie> {
        None
    }

    fn queue_broken(&self) -> bool {
        false
    }

    fn trouble(&self) -> Option<Cause> {
        None
    }

    fn arm_watchdog(&self) {}

    fn end(&self, threads: Threads, result: Result<(), flush_core::Error>) {
        debug_assert_eq!(result, Ok(()));
        self.0.borrow_mut().wishes.ended.extend(threads.0);
    }

    fn broke(&self, cause: Cause) {
        debug_assert!(false, "{cause:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AS_IT_IS: Rule = Rule {
        in_flight: 1,
        window: Window::None,
    };

    fn published(guest: &mut impl Guest) -> usize {
        guest.wishes().published.len()
    }

    #[test]
    fn who_comes_meanwhile_shares_the_next_request() {
        for guest in [
            &mut Model::new(AS_IT_IS) as &mut dyn Guest,
            &mut Real::new(),
        ] {
            guest.flush(1);
            assert_eq!(guest.wishes().published, [1]);
            guest.flush(2);
            guest.flush(3);
            assert!(guest.wishes().published.is_empty());
            guest.answered(1);
            let wishes = guest.wishes();
            assert_eq!((wishes.published, wishes.ended), (vec![2], vec![1]));
            guest.answered(2);
            let wishes = guest.wishes();
            assert_eq!((wishes.published, wishes.ended), (vec![], vec![2, 3]));
        }
    }

    #[test]
    fn two_in_flight_are_two() {
        let mut guest = Model::new(Rule {
            in_flight: 2,
            ..AS_IT_IS
        });
        guest.flush(1);
        guest.flush(2);
        assert_eq!(published(&mut guest), 2);
        guest.flush(3);
        assert_eq!(published(&mut guest), 0);
        guest.answered(2);
        assert_eq!(guest.wishes().published, [3]);
    }

    #[test]
    fn a_window_gathers_and_ends() {
        let mut guest = Model::new(Rule {
            window: Window::Always,
            ..AS_IT_IS
        });
        guest.flush(1);
        let wishes = guest.wishes();
        assert!(wishes.window && wishes.published.is_empty());
        guest.flush(2);
        guest.window_over();
        assert_eq!(guest.wishes().published, [1]);
        guest.answered(1);
        assert_eq!(guest.wishes().ended, [1, 2]);
    }

    #[test]
    fn a_thread_alone_does_not_wait_for_company() {
        let mut guest = Model::new(Rule {
            window: Window::InCompany,
            ..AS_IT_IS
        });
        guest.flush(1);
        assert_eq!(published(&mut guest), 1);
        guest.flush(2);
        guest.flush(3);
        guest.answered(1);
        assert!(guest.wishes().window);
    }
}
