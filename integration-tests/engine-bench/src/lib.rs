// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The two devices that are compared: the engine with its worker thread, and the plain loop that
//! a device without one runs in its queue's thread.

use std::error::Error;
use std::io;
use std::sync::Arc;

use pmem_flush::protocol::Request;
use pmem_flush::test_utils::{GuestDriver, Interrupts, PATIENCE, is_readable};
use pmem_flush::{
    Activation, EngineConfig, FileStamp, FlushEngine, FlushQueue, Identity, SyncBackend,
    WorkerSeccomp,
};
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Descriptors of the ring; each request takes two.
const RING: u16 = 1024;

/// A storage that is always done: what is left is the engine's own cost.
pub struct Instant;

impl SyncBackend for Instant {
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn stamp(&self) -> io::Result<FileStamp> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The requests that a driver has published, at the place it goes on from.
struct Requests {
    driver: GuestDriver,
    next: u16,
}

impl Requests {
    fn new() -> Self {
        Self {
            driver: GuestDriver::new(RING),
            next: 0,
        }
    }

    fn publish(&mut self, count: u16) {
        for _ in 0..count {
            self.driver.flush(self.next % self.driver.capacity());
            self.next = self.next.wrapping_add(1);
        }
    }

    fn is_answered(&self) -> bool {
        self.driver.used_index() == self.driver.avail_index()
    }
}

type ActiveQueue = FlushQueue<GuestMemoryAtomic<GuestMemoryMmap>, Identity, Arc<Interrupts>>;

/// The engine; the caller is the device's thread.
pub struct Engine {
    engine: FlushEngine,
    queue: ActiveQueue,
    requests: Requests,
}

impl Engine {
    /// An engine over `backend`.
    ///
    /// # Errors
    /// No thread or descriptor left.
    pub fn new(backend: Arc<dyn SyncBackend>) -> Result<Self, Box<dyn Error>> {
        Self::with(EngineConfig::new("bench"), backend)
    }

    /// The same with a worker that has no seccomp filter: callgrind does not know the call that sets one
    /// (valgrind 3.19), and counts only what runs in user space, where a filter is not.
    ///
    /// # Errors
    /// No thread or descriptor left.
    pub fn unfiltered(backend: Arc<dyn SyncBackend>) -> Result<Self, Box<dyn Error>> {
        let config = EngineConfig {
            seccomp: WorkerSeccomp::Off,
            ..EngineConfig::new("bench")
        };
        Self::with(config, backend)
    }

    fn with(config: EngineConfig, backend: Arc<dyn SyncBackend>) -> Result<Self, Box<dyn Error>> {
        let requests = Requests::new();
        let engine = FlushEngine::new(config, backend, Arc::new(()))?;
        let queue = engine.activate(Activation {
            memory: GuestMemoryAtomic::new(requests.driver.memory().clone()),
            queue: requests.driver.queue(),
            queue_evt: EventFd::new(EFD_NONBLOCK)?,
            translate: Identity,
            signal: Arc::new(Interrupts::default()),
        })?;
        Ok(Self {
            engine,
            queue,
            requests,
        })
    }

    /// `count` requests at once, from the kick to the last answer.
    ///
    /// # Panics
    /// An answer does not come.
    pub fn flush(&mut self, count: u16) {
        self.requests.publish(count);
        if let Err(error) = self.queue.queue_evt().write(1) {
            panic!("the kick: {error}");
        }
        self.queue.on_queue_event();
        while !self.requests.is_answered() {
            assert!(is_readable(self.queue.wake_evt(), PATIENCE), "no answer");
            self.queue.on_wake_event();
        }
    }

    /// Answers, and syncs of the backend.
    pub fn counts(&self) -> (u64, u64) {
        let counters = self.engine.counters();
        (counters.flushes, counters.host_syncs)
    }
}

/// A device without an engine: a sync for each request in the caller's thread.
pub struct Inline {
    backend: Arc<dyn SyncBackend>,
    queue: Queue,
    requests: Requests,
}

impl Inline {
    /// A device over `backend`.
    pub fn new(backend: Arc<dyn SyncBackend>) -> Self {
        let requests = Requests::new();
        Self {
            backend,
            queue: requests.driver.queue(),
            requests,
        }
    }

    /// `count` requests at once, from the kick to the last answer.
    ///
    /// # Panics
    /// The ring, which is ours, is broken.
    pub fn flush(&mut self, count: u16) {
        self.requests.publish(count);
        let memory = self.requests.driver.memory().clone();
        while !self.requests.is_answered() {
            if let Err(error) = self.one(&memory) {
                panic!("the ring: {error}");
            }
        }
    }

    fn one(&mut self, memory: &GuestMemoryMmap) -> Result<(), virtio_queue::Error> {
        let Some(mut chain) = self.queue.iter(memory)?.next() else {
            return Ok(());
        };
        let request = Request::parse(&mut chain, &Identity);
        let synced = self.backend.sync_data().is_ok();
        let length = request.answer(memory, synced);
        self.queue.add_used(memory, request.head, length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_answer_everything_and_the_engine_syncs_less() {
        let mut engine = Engine::new(Arc::new(Instant)).unwrap();
        let mut inline = Inline::new(Arc::new(Instant));
        for _ in 0..5 {
            engine.flush(256);
            inline.flush(256);
        }
        let (flushes, syncs) = engine.counts();
        assert_eq!(flushes, 5 * 256);
        assert!(syncs <= 10, "{syncs} syncs for 5 batches");
    }
}
