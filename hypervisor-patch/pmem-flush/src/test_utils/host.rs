// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! A host: interrupts that are counted, an event log, and a device with all
//! that belongs to it. The test is the device thread.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use std::{io, panic, thread};

use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::config::EngineConfig;
use crate::device::{Activation, FlushQueue};
use crate::engine::FlushEngine;
use crate::event::{Event, Observer};
use crate::signal::Signal;
use crate::state::EngineState;
use crate::test_utils::driver::GuestDriver;
use crate::test_utils::file::HeldFile;
use crate::translate::Identity;

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `work` on a thread of its own; panics if it is not through in
/// [`PATIENCE`], so that a call which must not block can't hang the test.
pub fn within<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let result = work();
        let _ = sender.send(());
        result
    });
    if receiver.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("call did not return");
    }
    match thread.join() {
        Ok(result) => result,
        Err(cause) => panic::resume_unwind(cause),
    }
}

/// True if `event` can be read, at once or within `wait`.
pub fn is_readable(event: &EventFd, wait: Duration) -> bool {
    let end = Instant::now() + wait;
    let mut poll = libc::pollfd {
        fd: event.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let ms = libc::c_int::try_from(left.as_millis()).unwrap_or(libc::c_int::MAX);
        // SAFETY: one entry, which outlives the call.
        let ready = unsafe { libc::poll(&raw mut poll, 1, ms) };
        // A fuzzer's timer interrupts the wait.
        let interrupted =
            ready < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
        if !interrupted {
            return ready == 1;
        }
    }
}

/// Counts interrupts.
#[derive(Debug, Default)]
pub struct Interrupts {
    used: AtomicU64,
    needs_reset: AtomicU64,
}

impl Interrupts {
    /// Interrupts for the used ring.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::SeqCst)
    }

    /// How often `DEVICE_NEEDS_RESET` was set.
    pub fn needs_reset(&self) -> u64 {
        self.needs_reset.load(Ordering::SeqCst)
    }
}

impl Signal for Interrupts {
    fn used(&self) -> io::Result<()> {
        self.used.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn needs_reset(&self) -> io::Result<()> {
        self.needs_reset.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// An event log.
#[derive(Debug, Default)]
pub struct Recorder {
    events: Mutex<Vec<Event>>,
}

impl Recorder {
    /// The names of the events since the last call.
    pub fn take(&self) -> Vec<&'static str> {
        self.take_events().iter().map(Event::name).collect()
    }

    /// The events since the last call.
    pub fn take_events(&self) -> Vec<Event> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.drain(..).collect()
    }
}

impl Observer for Recorder {
    fn event(&self, id: &str, event: &Event) {
        assert!(!id.is_empty());
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(event.clone());
    }
}

/// The queue type of a [`TestDevice`].
pub type TestQueue = FlushQueue<GuestMemoryAtomic<GuestMemoryMmap>, Identity, Arc<Interrupts>>;

/// A device with its guest, its file and its host.
pub struct TestDevice {
    /// The engine's handle.
    pub engine: FlushEngine,
    /// The present activation's queue.
    pub queue: Option<TestQueue>,
    /// The guest.
    pub driver: GuestDriver,
    /// The file.
    pub file: Arc<HeldFile>,
    /// The interrupts it got.
    pub interrupts: Arc<Interrupts>,
    /// The event log.
    pub events: Arc<Recorder>,
}

impl TestDevice {
    /// A running device with `file` and a queue of `size`.
    pub fn new(config: EngineConfig, file: File, size: u16) -> Self {
        let file = Arc::new(HeldFile::new(file));
        let events = Arc::new(Recorder::default());
        let engine = FlushEngine::new(config, file.clone(), events.clone()).expect("engine");
        let mut device = TestDevice {
            engine,
            queue: None,
            driver: GuestDriver::new(size),
            file,
            interrupts: Arc::default(),
            events,
        };
        device.activate();
        device
    }

    /// The device in a new process: the guest's memory and the file are as they
    /// were, everything else is made from `state`. Not yet resumed.
    pub fn restore(config: EngineConfig, old: TestDevice, state: &EngineState) -> Self {
        let TestDevice { driver, file, .. } = old;
        let events = Arc::new(Recorder::default());
        let engine =
            FlushEngine::restore(config, file.clone(), events.clone(), state).expect("engine");
        let mut device = TestDevice {
            engine,
            queue: None,
            driver,
            file,
            interrupts: Arc::default(),
            events,
        };
        device.activate();
        device
    }

    /// Gives the engine a queue with indices from `used.idx`.
    pub fn activate(&mut self) {
        let activation = Activation {
            memory: GuestMemoryAtomic::new(self.driver.memory().clone()),
            queue: self.driver.queue(),
            queue_evt: EventFd::new(EFD_NONBLOCK).expect("eventfd"),
            translate: Identity,
            signal: self.interrupts.clone(),
        };
        self.queue = Some(self.engine.activate(activation).expect("activation"));
        // The wake-up of the activation itself.
        self.catch_up();
    }

    /// The guest resets the device and sets it up again.
    pub fn reactivate(&mut self) {
        self.queue = None;
        self.driver.reset();
        self.activate();
    }

    fn queue_mut(&mut self) -> &mut TestQueue {
        self.queue.as_mut().expect("active device")
    }

    /// Publishes `count` flushes, from number `first` on; returns their heads.
    pub fn publish(&mut self, first: u16, count: u16) -> Vec<u16> {
        (first..first + count)
            .map(|n| self.driver.flush(n))
            .collect()
    }

    /// The guest's kick arrives.
    pub fn kick(&mut self) {
        let queue = self.queue_mut();
        queue.queue_evt().write(1).expect("eventfd");
        queue.on_queue_event();
    }

    /// Waits for the device's wake-up and handles it.
    pub fn wake(&mut self) {
        let queue = self.queue_mut();
        assert!(is_readable(queue.wake_evt(), PATIENCE), "no wake-up");
        queue.on_wake_event();
    }

    /// Handles wake-ups until the device has answered everything published.
    pub fn settle(&mut self) {
        let end = Instant::now() + PATIENCE;
        while self.driver.used_index() != self.driver.avail_index() {
            assert!(Instant::now() < end, "requests left unanswered");
            self.wake();
        }
    }

    /// Handles the wake-ups there are, without waiting for more.
    pub fn catch_up(&mut self) {
        while is_readable(self.queue_mut().wake_evt(), Duration::ZERO) {
            self.queue_mut().on_wake_event();
        }
    }
}
