// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! A kernel and a device for the model checker: lock and wait queues of loom's, a ring,
//! and memory that can be freed.
//!
//! What only checks (the freed flag, the sea of writes, what bios were told) is kept
//! in plain atomics and mutexes, so that it adds no interleavings: each is touched right
//! after an operation at which loom may switch threads.

use std::collections::VecDeque;
use std::ptr;
use std::sync::Mutex as Plain;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::vec::Vec;

use loom::sync::atomic::AtomicU64;
use loom::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::{
    Bios, Cause, Cookie, Error, FlushCore, Lock, Platform, Refusal, Request, Ticks, Used, WaitQueue,
};

/// The core on top of the modelled world.
pub(super) type Core<const N: usize> = FlushCore<World, N>;

/// A request in the ring: its cookie, and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) cookie: Cookie,
    pub(super) address: usize,
}

/// The virtqueue and the device status.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// Published, not yet seen by the host.
    avail: VecDeque<Entry>,
    /// In the ring: neither returned to the core nor detached.
    pub(super) held: Vec<Entry>,
    used: VecDeque<Used>,
    /// The queue exists and DRIVER_OK is set.
    pub(super) driver_ok: bool,
    /// The device was reset since DRIVER_OK.
    pub(super) reset: bool,
    pub(super) broken: bool,
    pub(super) needs_reset: bool,
    /// The device was reset behind the driver's back.
    pub(super) down: bool,
    pub(super) kick_fails: bool,
    /// The watchdog was armed.
    pub(super) armed: bool,
    /// Threads that have done their work.
    done: usize,
    /// The latest time that someone sleeps until.
    sleep_until: Ticks,
}

/// Where tasks sleep: an epoch that each wake moves on.
#[derive(Debug)]
struct Queue {
    epoch: Mutex<usize>,
    woken: Condvar,
}

impl Queue {
    fn new() -> Self {
        Self {
            epoch: Mutex::new(0),
            woken: Condvar::new(),
        }
    }

    fn wake(&self) {
        let mut epoch = self.epoch.lock().unwrap();
        *epoch += 1;
        self.woken.notify_all();
    }
}

/// The platform.
#[derive(Debug)]
pub(super) struct World {
    ring: Mutex<Ring>,
    changed: Condvar,
    slots: [Queue; 2],
    free_slot: Queue,
    drain: Queue,
    clock: AtomicU64,
    freed: AtomicBool,
    written: AtomicUsize,
    durable: AtomicUsize,
    pub(super) ended: Plain<Vec<(usize, Result<(), Error>)>>,
    pub(super) events: Plain<Vec<Cause>>,
}

impl World {
    fn new() -> Self {
        Self {
            ring: Mutex::new(Ring::default()),
            changed: Condvar::new(),
            slots: [Queue::new(), Queue::new()],
            free_slot: Queue::new(),
            drain: Queue::new(),
            clock: AtomicU64::new(0),
            freed: AtomicBool::new(false),
            written: AtomicUsize::new(0),
            durable: AtomicUsize::new(0),
            ended: Plain::default(),
            events: Plain::default(),
        }
    }

    /// The ring; what uses it must not have been freed.
    pub(super) fn ring(&self) -> MutexGuard<'_, Ring> {
        let ring = self.ring.lock().unwrap();
        self.touch();
        ring
    }

    /// Every access of the core to its memory comes through here.
    fn touch(&self) {
        assert!(
            !self.freed.load(Ordering::SeqCst),
            "use of the core after it was freed"
        );
    }

    pub(super) fn free(&self) {
        self.freed.store(true, Ordering::SeqCst);
    }

    fn queue(&self, on: WaitQueue) -> &Queue {
        match on {
            WaitQueue::Slot(index) => &self.slots[index],
            WaitQueue::FreeSlot => &self.free_slot,
            WaitQueue::Drain => &self.drain,
        }
    }

    /// Sets up the queue and DRIVER_OK.
    pub(super) fn start(&self) {
        let mut ring = self.ring();
        ring.driver_ok = true;
        ring.reset = false;
    }

    /// Resets the device: the host forgets what it has.
    pub(super) fn reset(&self) {
        let mut ring = self.ring();
        ring.driver_ok = false;
        ring.reset = true;
        ring.avail.clear();
        ring.used.clear();
    }

    /// The host's next request, with the writes that its sync will cover; None once `threads`
    /// threads are done.
    pub(super) fn take(&self, threads: usize) -> Option<(Entry, usize)> {
        let mut ring = self.ring.lock().unwrap();
        loop {
            if let Some(entry) = ring.avail.pop_front() {
                return Some((entry, self.written.load(Ordering::SeqCst)));
            }
            if ring.done == threads {
                return None;
            }
            ring = self.changed.wait(ring).unwrap();
        }
    }

    /// The host gives a buffer back.
    pub(super) fn give(&self, cookie: Cookie, len: u32) {
        let mut ring = self.ring();
        if !ring.reset {
            ring.used.push_back(Used { cookie, len });
        }
    }

    /// Sleeps until the ring is as wanted.
    pub(super) fn until(&self, wanted: impl Fn(&Ring) -> bool) {
        let mut ring = self.ring.lock().unwrap();
        while !wanted(&ring) {
            ring = self.changed.wait(ring).unwrap();
        }
    }

    /// Changes the ring and tells who waits for that.
    pub(super) fn change(&self, change: impl FnOnce(&mut Ring)) {
        change(&mut self.ring());
        self.changed.notify_all();
    }

    /// A thread is done.
    pub(super) fn done(&self) {
        let mut ring = self.ring.lock().unwrap();
        ring.done += 1;
        self.changed.notify_all();
    }

    /// Lets time pass whenever someone sleeps until a time, until `threads` threads are done.
    pub(super) fn tick(&self, threads: usize) {
        let mut time = 0;
        loop {
            let mut ring = self.ring.lock().unwrap();
            while ring.done < threads && ring.sleep_until <= time {
                ring = self.changed.wait(ring).unwrap();
            }
            if ring.done == threads {
                return;
            }
            time = ring.sleep_until;
            drop(ring);
            self.pass_to(time);
        }
    }

    /// Lets time pass.
    pub(super) fn pass_to(&self, time: Ticks) {
        self.clock.store(time, Ordering::SeqCst);
        self.drain.wake();
    }

    /// Writes to the persistent memory: the number of the write.
    pub(super) fn write(&self) -> usize {
        self.written.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The host's sync of that many writes has ended.
    pub(super) fn synced(&self, writes: usize) {
        self.durable.fetch_max(writes, Ordering::SeqCst);
    }

    /// Fails unless a write is durable.
    pub(super) fn assert_durable(&self, write: usize) {
        assert!(
            self.durable.load(Ordering::SeqCst) >= write,
            "success for a write that no host flush covers"
        );
    }
}

/// A core with N slots on a device that is up but not yet thawed.
pub(super) fn frozen<const N: usize>(flush_timeout: Ticks) -> Arc<Core<N>> {
    let core = Arc::new(FlushCore::new(World::new(), flush_timeout));
    core.platform().start();
    core
}

/// A core with N slots that is Live.
pub(super) fn live<const N: usize>(flush_timeout: Ticks) -> Arc<Core<N>> {
    let core = frozen(flush_timeout);
    core.thaw().unwrap();
    core
}

/// The host answers one request, writing `status` if there is one, and interrupts.
pub(super) fn answer<const N: usize>(
    core: &Core<N>,
    taken: (Entry, usize),
    status: Option<u32>,
    len: u32,
) {
    sync(core, taken, status, len);
    core.used();
}

/// The host answers one request; its interrupt is lost.
pub(super) fn sync<const N: usize>(
    core: &Core<N>,
    (entry, writes): (Entry, usize),
    status: Option<u32>,
    len: u32,
) {
    assert!(
        core.is_hosts(entry.cookie),
        "the host's request was released"
    );
    if let Some(status) = status {
        core.request_at(entry.address)
            .status()
            .store(status, Ordering::Relaxed);
        if status == 0 && len >= 4 {
            core.platform().synced(writes);
        }
    }
    core.platform().give(entry.cookie, len);
}

/// The host answers everything with success until `threads` threads are done. Returns the
/// number of its flushes.
pub(super) fn serve<const N: usize>(core: &Core<N>, threads: usize) -> usize {
    let mut flushes = 0;
    while let Some(taken) = core.platform().take(threads) {
        flushes += 1;
        answer(core, taken, Some(0), 4);
    }
    flushes
}

/// A task writes and flushes; a success must cover the write.
pub(super) fn write_and_flush<const N: usize>(core: &Core<N>) -> Result<(), Error> {
    let write = core.platform().write();
    let result = core.flush();
    if result.is_ok() {
        core.platform().assert_durable(write);
    }
    result
}

impl Platform for World {
    type Lock<T> = Section<T>;
    type Bios = Handles;

    fn new_lock<T>(&self, value: T) -> Section<T> {
        Section(Mutex::new(value))
    }

    fn wait(&self, on: WaitQueue, until: Option<Ticks>, mut ready: impl FnMut() -> bool) {
        let queue = self.queue(on);
        let mut seen = *queue.epoch.lock().unwrap();
        self.touch();
        loop {
            if ready() || until.is_some_and(|until| self.now() >= until) {
                break;
            }
            if let Some(until) = until {
                self.change(|ring| ring.sleep_until = until);
            }
            let mut epoch = queue.epoch.lock().unwrap();
            while *epoch == seen {
                epoch = queue.woken.wait(epoch).unwrap();
            }
            seen = *epoch;
        }
        // The kernel's finish_wait takes the queue's lock.
        drop(queue.epoch.lock().unwrap());
        self.touch();
    }

    fn wake(&self, on: WaitQueue) {
        self.queue(on).wake();
        self.touch();
    }

    fn now(&self) -> Ticks {
        self.clock.load(Ordering::SeqCst)
    }

    fn publish(&self, request: &Request, cookie: Cookie) -> Result<(), Refusal> {
        let mut ring = self.ring();
        assert!(ring.driver_ok, "published without a running queue");
        let entry = Entry {
            cookie,
            address: ptr::from_ref(request).addr(),
        };
        let reused = ring.held.iter().any(|held| held.address == entry.address);
        assert!(!reused, "published a request that is in the ring");
        ring.avail.push_back(entry);
        ring.held.push(entry);
        Ok(())
    }

    fn kick(&self) -> bool {
        let ring = self.ring();
        assert!(ring.driver_ok, "kicked without a running queue");
        self.changed.notify_all();
        !ring.kick_fails
    }

    fn next_used(&self) -> Option<Used> {
        let mut ring = self.ring();
        let used = ring.used.pop_front()?;
        ring.held.retain(|held| held.cookie != used.cookie);
        Some(used)
    }

    fn detach(&self) -> Option<Cookie> {
        let mut ring = self.ring();
        assert!(ring.reset, "detached from a live queue");
        Some(ring.held.pop()?.cookie)
    }

    fn queue_broken(&self) -> bool {
        self.ring().broken
    }

    fn trouble(&self) -> Option<Cause> {
        let ring = self.ring();
        if ring.needs_reset {
            Some(Cause::NeedsReset)
        } else {
            ring.down.then_some(Cause::Down)
        }
    }

    fn arm_watchdog(&self) {
        self.ring().armed = true;
        self.changed.notify_all();
    }

    fn end(&self, bios: Handles, result: Result<(), Error>) {
        // A switch of threads here lets a core be freed under an unfinished end.
        drop(self.ring());
        let mut ended = self.ended.lock().unwrap();
        for bio in bios.0 {
            let again = ended.iter().any(|(other, _)| *other == bio.0);
            assert!(!again, "a bio ended twice");
            if result.is_ok() {
                self.assert_durable(bio.1);
            }
            ended.push((bio.0, result));
        }
    }

    fn broke(&self, cause: Cause) {
        self.events.lock().unwrap().push(cause);
    }
}

/// Loom's mutex as the core's lock.
#[derive(Debug)]
pub(super) struct Section<T>(Mutex<T>);

impl<T> Lock<T> for Section<T> {
    fn with<R>(&self, section: impl FnOnce(&mut T) -> R) -> R {
        section(&mut self.0.lock().unwrap())
    }
}

/// A bio: its number, and the write that its flush must cover.
#[derive(Clone, Debug)]
pub(super) struct Bio(pub(super) usize, pub(super) usize);

/// A list of bios.
#[derive(Debug, Default)]
pub(super) struct Handles(Vec<Bio>);

impl Bios for Handles {
    type Bio = Bio;

    fn push(&mut self, bio: Bio) {
        self.0.push(bio);
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }
}
