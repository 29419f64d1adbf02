// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! The flush path allocates nothing (9).

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, OnceCell};
use std::rc::{Rc, Weak};

use crate::{
    Bios, Cause, Cookie, Error, FlushCore, Lock, Platform, Refusal, Request, Ticks, Used, WaitQueue,
};

std::thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting per thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: both methods hand on to the system's allocator, whose contract they have.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of alloc.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of dealloc.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// A platform that allocates nothing itself: its host answers when a task sleeps.
#[derive(Default)]
struct Bare {
    core: OnceCell<Weak<FlushCore<Bare, 2>>>,
    published: Cell<Cookie>,
    answered: Cell<Cookie>,
    ended: Cell<u32>,
}

impl Bare {
    /// The host answers what was published, and interrupts.
    fn answer(&self) {
        self.answered.set(self.published.take());
        self.core.get().unwrap().upgrade().unwrap().used();
    }
}

/// Hands the state in and out; two nested sections would find it gone.
struct Section<T>(Cell<Option<T>>);

impl<T> Lock<T> for Section<T> {
    fn with<R>(&self, section: impl FnOnce(&mut T) -> R) -> R {
        let mut value = self.0.take().unwrap();
        let outcome = section(&mut value);
        self.0.set(Some(value));
        outcome
    }
}

/// How many bios.
#[derive(Debug, Default)]
struct Count(u32);

impl Bios for Count {
    type Bio = ();

    fn push(&mut self, (): ()) {
        self.0 += 1;
    }

    fn is_empty(&self) -> bool {
        self.0 == 0
    }

    fn duplicate(&self) -> Self {
        Self(self.0)
    }
}

impl Platform for Bare {
    type Lock<T> = Section<T>;
    type Bios = Count;

    fn new_lock<T>(&self, value: T) -> Section<T> {
        Section(Cell::new(Some(value)))
    }

    fn wait(&self, _: WaitQueue, _: Option<Ticks>, mut ready: impl FnMut() -> bool) {
        while !ready() {
            self.answer();
        }
    }

    fn wake(&self, _: WaitQueue) {}

    fn now(&self) -> Ticks {
        0
    }

    fn publish(&self, _: &Request, cookie: Cookie) -> Result<(), Refusal> {
        self.published.set(cookie);
        Ok(())
    }

    fn kick(&self) -> bool {
        true
    }

    fn next_used(&self) -> Option<Used> {
        let cookie = self.answered.take();
        (cookie != 0).then_some(Used { cookie, len: 4 })
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

    fn end(&self, bios: Count, _: Result<(), Error>) {
        self.ended.set(self.ended.get() + bios.0);
    }

    fn broke(&self, _: Cause) {}
}

#[test]
fn the_flush_path_allocates_nothing() {
    let core = Rc::new(FlushCore::<Bare, 2>::new(Bare::default(), 0));
    core.platform().core.set(Rc::downgrade(&core)).unwrap();
    core.thaw().unwrap();
    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        core.flush_bio(()).unwrap();
        core.flush_bio(()).unwrap();
        // Not a success: this host writes no status.
        assert_eq!(core.flush(), Err(Error::Host));
    }
    let after = ALLOCATIONS.get();
    assert_eq!(after, before, "allocations in the flush path");
    assert_eq!(core.platform().ended.get(), 200);
    assert_eq!(core.counters().host_flushes, 200);
}
