// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A device as stock VMMs have it, to compare with: its thread takes one request after the
//! other, syncs the file for each, and interrupts when the queue is empty. A pause waits
//! until then.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pmem_flush::protocol::Request;
use pmem_flush::{Identity, Signal};
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use super::line::Line;
use super::pmem_thread::QueueWork;

/// What outlives an activation.
pub struct Serial {
    file: File,
    /// True while the machine is paused; held while the queue is worked.
    paused: Mutex<bool>,
    kick: Mutex<Option<EventFd>>,
    flushes: AtomicU64,
    errors: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Serial {
    /// A device whose flushes are syncs of `file`.
    pub fn new(file: File) -> Arc<Self> {
        Arc::new(Self {
            file,
            paused: Mutex::new(false),
            kick: Mutex::new(None),
            flushes: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        })
    }

    /// Its work on `queue`.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn activate(
        self: &Arc<Self>,
        memory: Arc<GuestMemoryMmap>,
        queue: Queue,
        kick: EventFd,
        line: Arc<Line>,
    ) -> io::Result<SerialQueue> {
        *lock(&self.kick) = Some(kick.try_clone()?);
        Ok(SerialQueue {
            device: self.clone(),
            memory,
            queue,
            kick,
            line,
        })
    }

    /// Waits for the end of all requests that the thread has met, as a stock pause does.
    pub fn pause(&self) {
        *lock(&self.paused) = true;
    }

    /// Lets it go on.
    pub fn resume(&self) {
        *lock(&self.paused) = false;
        if let Some(kick) = &*lock(&self.kick)
            && let Err(e) = kick.write(1)
        {
            log::error!("a serial device cannot be called: {e}");
        }
    }

    /// Under the engine's names.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        let flushes = self.flushes.load(Ordering::Relaxed);
        BTreeMap::from([
            ("flushes", flushes),
            ("host_syncs", flushes),
            ("errors", self.errors.load(Ordering::Relaxed)),
        ])
    }
}

/// An activation's queue.
pub struct SerialQueue {
    device: Arc<Serial>,
    memory: Arc<GuestMemoryMmap>,
    queue: Queue,
    kick: EventFd,
    line: Arc<Line>,
}

impl SerialQueue {
    fn work(&mut self) -> Result<bool, virtio_queue::Error> {
        let mut any = false;
        loop {
            let mut chains = self.queue.iter(&*self.memory)?;
            let Some(mut chain) = chains.next() else {
                return Ok(any);
            };
            let request = Request::parse(&mut chain, &Identity);
            let synced = request.is_flush() && self.sync();
            let length = request.answer(&*self.memory, synced);
            self.queue.add_used(&*self.memory, request.head, length)?;
            any = true;
        }
    }

    fn sync(&self) -> bool {
        self.device.flushes.fetch_add(1, Ordering::Relaxed);
        let synced = self.device.file.sync_all();
        if let Err(e) = &synced {
            self.device.errors.fetch_add(1, Ordering::Relaxed);
            log::error!("a flush failed: {e}");
        }
        synced.is_ok()
    }
}

impl QueueWork for SerialQueue {
    fn queue_evt(&self) -> &EventFd {
        &self.kick
    }

    fn wake_evt(&self) -> Option<&EventFd> {
        None
    }

    fn on_queue_event(&mut self) {
        if let Err(e) = self.kick.read()
            && e.kind() != io::ErrorKind::WouldBlock
        {
            log::error!("cannot read a queue's kick: {e}");
        }
        let device = self.device.clone();
        let paused = lock(&device.paused);
        if *paused {
            return;
        }
        let told = match self.work() {
            Ok(true) => self.line.used(),
            Ok(false) => Ok(()),
            Err(e) => {
                log::error!("a serial device's queue is broken: {e}");
                self.line.needs_reset()
            }
        };
        if let Err(e) = told {
            log::error!("cannot interrupt the guest: {e}");
        }
    }

    fn on_wake_event(&mut self) {}
}

#[cfg(test)]
mod tests {
    use pmem_flush::test_utils::GuestDriver;
    use tempfile::tempfile;
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;
    use crate::devices::IrqLine;

    fn work(driver: &GuestDriver, device: &Arc<Serial>) -> SerialQueue {
        let line = Arc::new(Line::new(IrqLine::loose()));
        let memory = Arc::new(driver.memory().clone());
        let kick = EventFd::new(EFD_NONBLOCK).unwrap();
        device.activate(memory, driver.queue(), kick, line).unwrap()
    }

    #[test]
    fn each_request_has_a_sync_of_its_own() {
        let mut driver = GuestDriver::new(64);
        let device = Serial::new(tempfile().unwrap());
        let mut queue = work(&driver, &device);
        let heads = [0, 1, 2].map(|n| driver.flush(n));
        queue.on_queue_event();
        let used: Vec<_> = driver.take_used().iter().map(|(id, _)| *id).collect();
        assert_eq!(used, heads.map(u32::from));
        assert!(heads.iter().all(|head| driver.status(*head) == 0));
        assert_eq!(device.counters()["host_syncs"], 3);
    }

    #[test]
    fn a_paused_device_takes_nothing_and_goes_on_with_what_came_meanwhile() {
        let mut driver = GuestDriver::new(64);
        let device = Serial::new(tempfile().unwrap());
        let mut queue = work(&driver, &device);
        device.pause();
        driver.flush(0);
        queue.on_queue_event();
        assert!(driver.take_used().is_empty());
        device.resume();
        assert_eq!(queue.queue_evt().read().unwrap(), 1);
        queue.on_queue_event();
        assert_eq!(driver.take_used().len(), 1);
    }
}
