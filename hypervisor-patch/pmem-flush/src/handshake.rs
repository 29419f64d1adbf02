// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! How the three threads meet: device, worker and management around one
//! coordinator. This file is what the model checker runs.
//!
//! The lock is held for state changes only: not for a sync, not while guest
//! memory is touched, not while an observer is told.

use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::coordinator::{
    Coordinator, DrainStatus, Effects, Generation, Job, Popped, Report, Step,
};
use crate::error::Error;
use crate::event::{Event, Observer};
use crate::stamp::FileStamp;
use crate::sync::{Condvar, Doorbell, Mutex, MutexGuard};

/// The queue as [`Shared::turn`] uses it.
pub(crate) trait Ring {
    /// Takes everything that is available, at most a queue's size.
    fn pop(&mut self) -> Popped;

    /// Answers what was popped and interrupts the guest once. On an error says
    /// what is wrong with the ring.
    fn push(&mut self, flushed: bool) -> Result<(), &'static str>;

    /// Forgets what was popped.
    fn forget(&mut self);

    /// Tells the guest that its ring is inconsistent.
    fn needs_reset(&mut self, reason: &'static str);

    /// True if there is more to pop.
    fn has_more(&self) -> bool;
}

struct Core {
    coordinator: Coordinator,
    stop: bool,
}

/// What the threads share. Outlives every activation.
pub(crate) struct Shared {
    id: String,
    core: Mutex<Core>,
    /// The worker waits here for orders.
    orders: Condvar,
    /// Management waits here for drains, file syncs and the end of a lease.
    progress: Condvar,
    device_bell: Doorbell,
    management_bell: Doorbell,
    observer: Arc<dyn Observer>,
}

impl Shared {
    pub(crate) fn new(
        id: String,
        coordinator: Coordinator,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Error> {
        Ok(Shared {
            id,
            core: Mutex::new(Core {
                coordinator,
                stop: false,
            }),
            orders: Condvar::new(),
            progress: Condvar::new(),
            device_bell: Doorbell::new().map_err(Error::EventFd)?,
            management_bell: Doorbell::new().map_err(Error::EventFd)?,
            observer,
        })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn device_bell(&self) -> &Doorbell {
        &self.device_bell
    }

    pub(crate) fn management_bell(&self) -> &Doorbell {
        &self.management_bell
    }

    // Every state change is complete before the lock is given up, so a
    // panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the coordinator.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut Coordinator) -> R) -> R {
        look(&mut self.lock().coordinator)
    }

    /// Changes the coordinator, then does what comes of it.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Coordinator) -> (R, Effects)) -> R {
        let (result, effects) = change(&mut self.lock().coordinator);
        self.carry_out(&effects);
        result
    }

    fn carry_out(&self, effects: &Effects) {
        for event in &effects.events {
            if let Event::DiscardedWrites { .. } = event {
                log::warn!("{}: the guest's writes are not in the snapshot", self.id);
            }
            self.observer.event(&self.id, event);
        }
        if effects.worker {
            self.orders.notify_all();
        }
        if effects.device {
            self.device_bell.ring();
        }
        if effects.management {
            self.progress.notify_all();
            self.management_bell.ring();
        }
    }

    // The device thread.

    /// One turn of the device thread: push the batch whose sync has ended, then
    /// pop the next one. At most a queue's size of requests is popped; if there
    /// is more and nothing to wait for, the device's bell rings again, so that a
    /// busy guest can't keep the thread from its other events.
    pub(crate) fn turn<R: Ring>(&self, generation: Generation, ring: &mut R) {
        if let Some(flushed) = self.with(|coordinator| coordinator.start_push(generation)) {
            self.push(ring, flushed);
        }
        if !self.with(|coordinator| coordinator.start_pop(generation)) {
            return;
        }
        let popped = ring.pop();
        let step = self.change(|coordinator| coordinator.popped(popped, Instant::now()));
        if step == Step::Forget {
            ring.forget();
            return;
        }
        if let Some(reason) = popped.ring_fault {
            ring.needs_reset(reason);
        }
        if let Step::Push { flushed } = step {
            self.push(ring, flushed);
            if ring.has_more() {
                self.device_bell.ring();
            }
        }
    }

    fn push<R: Ring>(&self, ring: &mut R, flushed: bool) {
        let ring_fault = ring.push(flushed).err();
        if let Some(reason) = ring_fault {
            ring.needs_reset(reason);
        }
        self.change(|coordinator| ((), coordinator.pushed(ring_fault, Instant::now())));
    }

    // The worker.

    /// Waits for an order; None when the device is gone.
    pub(crate) fn next_job(&self) -> Option<Job> {
        let mut core = self.lock();
        loop {
            if core.stop {
                return None;
            }
            if let Some(job) = core.coordinator.next_job() {
                return Some(job);
            }
            core = self
                .orders
                .wait(core)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) fn job_done(&self, job: Job, report: Report, took: Duration) {
        self.change(|coordinator| {
            let effects = coordinator.job_done(job, report, took, Instant::now());
            ((), effects)
        });
    }

    /// Lets the worker end, when it is through with what it does.
    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.orders.notify_all();
    }

    /// Holds the worker up for `time`, or until it has to end.
    #[cfg(all(feature = "fault-injection", not(loom)))]
    pub(crate) fn delay(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let mut core = self.lock();
        while !core.stop {
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return;
            }
            core = self
                .orders
                .wait_timeout(core, rest)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    // Management.

    /// Ends the activation; returns when its memory is no longer touched.
    pub(crate) fn reset(&self) {
        let generation = self.change(|coordinator| {
            let effects = coordinator.reset(Instant::now());
            (coordinator.generation(), effects)
        });
        let mut core = self.lock();
        while core.coordinator.holds_lease(generation) {
            core = self
                .progress
                .wait(core)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) fn wait_drain(&self) -> DrainStatus {
        loop {
            let core = self.lock();
            let (core, (status, until)) = self.poll(core, |coordinator| {
                let (status, until, effects) = coordinator.poll_drain(Instant::now());
                ((status, until), effects)
            });
            match (core, until) {
                (Some(core), Some(until)) if status == DrainStatus::Pending => {
                    self.wait_until(core, until);
                }
                _ => return status,
            }
        }
    }

    pub(crate) fn wait_file_sync(&self) -> Result<Option<FileStamp>, Error> {
        loop {
            let core = self.lock();
            let (core, (result, until)) = self.poll(core, |coordinator| {
                let (result, until, effects) = coordinator.poll_file_sync(Instant::now());
                ((result, until), effects)
            });
            match (result, core, until) {
                (Poll::Ready(result), ..) => return result,
                (Poll::Pending, Some(core), Some(until)) => self.wait_until(core, until),
                (Poll::Pending, ..) => return Err(Error::NoFileSync),
            }
        }
    }

    /// Polls under the lock and keeps it, so that no progress is missed before
    /// the wait, unless there is something to carry out.
    fn poll<'a, R>(
        &'a self,
        mut core: MutexGuard<'a, Core>,
        poll: impl FnOnce(&mut Coordinator) -> (R, Effects),
    ) -> (Option<MutexGuard<'a, Core>>, R) {
        let (result, effects) = poll(&mut core.coordinator);
        if effects.is_none() {
            return (Some(core), result);
        }
        drop(core);
        self.carry_out(&effects);
        (None, result)
    }

    fn wait_until(&self, core: MutexGuard<'_, Core>, until: Instant) {
        let time = until.saturating_duration_since(Instant::now());
        drop(self.progress.wait_timeout(core, time));
    }
}
