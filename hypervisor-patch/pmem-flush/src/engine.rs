// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! The long-lived side of a device: its file's worker, latch and counters, and
//! what management asks of it.

use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use vm_memory::GuestAddressSpace;
use vmm_sys_util::eventfd::EventFd;

use crate::backend::SyncBackend;
use crate::config::{EngineConfig, SyncMode};
#[cfg(feature = "fault-injection")]
use crate::coordinator::Mutation;
use crate::coordinator::{Coordinator, DeviceState, DrainStatus, Generation};
use crate::counters::Counters;
use crate::device::{Activation, FlushQueue};
use crate::error::Error;
use crate::event::Observer;
#[cfg(feature = "fault-injection")]
use crate::fault::Fault;
use crate::handshake::Shared;
use crate::latch::{LatchCause, SyncErrorPolicy};
use crate::private::PrivatePages;
use crate::seccomp;
use crate::signal::Signal;
use crate::stamp::FileStamp;
use crate::state::EngineState;
use crate::translate::Translate;
use crate::worker::Worker;

/// One virtio-pmem device's engine and the handle for it: clones are the same
/// device, usable from every thread. The last one to go, queues included,
/// ends the worker, without waiting for it.
#[derive(Clone)]
pub struct FlushEngine {
    owner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
    #[cfg(feature = "fault-injection")]
    fault: Option<Fault>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl FlushEngine {
    /// Makes a device and starts its worker. It is running, with no queue.
    ///
    /// # Errors
    ///
    /// No event descriptor, thread or seccomp filter was to be had.
    pub fn new(
        config: EngineConfig,
        backend: Arc<dyn SyncBackend>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Error> {
        Self::start(config, backend, observer, Coordinator::new)
    }

    /// Makes a device from a snapshot. It is quiesced until [`Self::resume`].
    /// Whether the file still fits is the caller's to ask first, with
    /// [`FileStamp::check`].
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn restore(
        config: EngineConfig,
        backend: Arc<dyn SyncBackend>,
        observer: Arc<dyn Observer>,
        state: &EngineState,
    ) -> Result<Self, Error> {
        Self::start(config, backend, observer, |sync, policy| {
            Coordinator::restored(sync, policy, state)
        })
    }

    /// Gives the device its queue: the guest's driver has set it up. What an
    /// earlier activation left running on the storage does not hold this up;
    /// the first batch waits for it.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyActive`] without a reset in between.
    pub fn activate<M, T, S>(
        &self,
        activation: Activation<M, T, S>,
    ) -> Result<FlushQueue<M, T, S>, Error>
    where
        M: GuestAddressSpace,
        T: Translate,
        S: Signal,
    {
        let wake_evt = self
            .shared()
            .device_bell()
            .event()
            .try_clone()
            .map_err(Error::EventFd)?;
        let generation = self.shared().change(Coordinator::activate)?;
        Ok(FlushQueue::new(
            self.clone(),
            generation,
            activation,
            wake_evt,
            #[cfg(feature = "fault-injection")]
            self.owner.fault,
        ))
    }

    /// Ends the activation, if there is one: requests in flight are dropped,
    /// the queue's event methods do nothing from now on. Returns once the
    /// queue's memory is no longer touched; never waits for storage.
    ///
    /// Dropping the [`FlushQueue`] does the same.
    pub fn reset(&self) {
        self.shared().reset();
    }

    /// Asks the device to quiesce: nothing is popped any more. Returns at
    /// once. Begin all devices' drains, then wait for each; one deadline
    /// for all. On a quiesced device this does nothing, on a draining one it
    /// replaces the deadline.
    pub fn begin_drain(&self, deadline: Instant) {
        self.shared()
            .change(|c| ((), c.begin_drain(Instant::now(), deadline)));
    }

    /// How the drain stands. A drain found pending past its deadline is called
    /// off here: [`DrainStatus::TimedOut`], and the device goes on.
    pub fn poll_drain(&self) -> DrainStatus {
        self.shared().change(|c| {
            let (status, _, effects) = c.poll_drain(Instant::now());
            (status, effects)
        })
    }

    /// Waits for the drain's end, at most until its deadline.
    ///
    /// # Errors
    ///
    /// [`Error::DrainTimedOut`]: the device goes on. [`Error::DrainCancelled`].
    pub fn wait_drain(&self) -> Result<(), Error> {
        match self.shared().wait_drain() {
            DrainStatus::Drained => Ok(()),
            DrainStatus::TimedOut => Err(Error::DrainTimedOut),
            DrainStatus::None | DrainStatus::Pending | DrainStatus::Cancelled => {
                Err(Error::DrainCancelled)
            }
        }
    }

    /// Calls a pending drain off; the device goes on. A drained device stays
    /// quiesced.
    pub fn cancel_drain(&self) {
        self.shared().change(|c| ((), c.cancel_drain()));
    }

    /// Lets a quiesced or draining device run; what the guest kicked
    /// meanwhile is popped.
    pub fn resume(&self) {
        self.shared().change(|c| ((), c.resume()));
    }

    /// Readable whenever a drain or a file sync has made progress: poll both
    /// then. The host reads it.
    pub fn management_evt(&self) -> &EventFd {
        self.shared().management_bell().event()
    }

    /// Starts the snapshot's sync of the file, on the worker. Every device of
    /// the VM must be quiesced, as another one may still write into this
    /// one's memory.
    ///
    /// With `allow_unsynced` a latched file, a failing and a late sync, and
    /// writes to a private mapping are no error: for those who want the state
    /// anyway.
    ///
    /// # Errors
    ///
    /// [`Error::NotQuiesced`], [`Error::FileSyncBusy`], [`Error::Latched`].
    pub fn begin_file_sync(&self, deadline: Instant, allow_unsynced: bool) -> Result<(), Error> {
        self.shared()
            .change(|c| c.begin_file_sync(deadline, allow_unsynced))
    }

    /// The file sync's result, once. The stamp is None only by override, if
    /// the storage did not answer in time.
    ///
    /// # Errors
    ///
    /// [`Error::FileSync`], [`Error::Stamp`], [`Error::Latched`],
    /// [`Error::FileSyncTimedOut`], [`Error::NoFileSync`];
    /// [`Error::DiscardedWrites`], [`Error::PrivatePages`] of a private mapping.
    pub fn poll_file_sync(&self) -> Poll<Result<Option<FileStamp>, Error>> {
        self.shared().change(|c| {
            let (result, _, effects) = c.poll_file_sync(Instant::now());
            (result, effects)
        })
    }

    /// Waits for the file sync's result, at most until its deadline.
    ///
    /// # Errors
    ///
    /// As [`Self::poll_file_sync`].
    pub fn wait_file_sync(&self) -> Result<Option<FileStamp>, Error> {
        self.shared().wait_file_sync()
    }

    /// [`Self::begin_file_sync`] and [`Self::wait_file_sync`].
    ///
    /// # Errors
    ///
    /// As these.
    pub fn sync_file(
        &self,
        deadline: Instant,
        allow_unsynced: bool,
    ) -> Result<Option<FileStamp>, Error> {
        self.begin_file_sync(deadline, allow_unsynced)?;
        self.wait_file_sync()
    }

    /// The device's id.
    pub fn id(&self) -> &str {
        self.shared().id()
    }

    /// What the device is doing.
    pub fn device_state(&self) -> DeviceState {
        self.shared().with(|c| c.device_state())
    }

    /// The counters at this moment.
    pub fn counters(&self) -> Counters {
        self.shared().with(|c| c.counters())
    }

    /// The first failed sync's error if the latch is set.
    pub fn latch(&self) -> Option<LatchCause> {
        self.shared().with(|c| c.latch())
    }

    /// Sets the latch as if a sync had failed with `cause`, unless the policy
    /// has none: for a device that takes the place of a latched one, as after a
    /// reboot of the guest. The file has not got better by that.
    pub fn set_latch(&self, cause: &LatchCause) {
        self.shared().change(|c| ((), c.set_latch(cause)));
    }

    /// Clears the latch, and returns why it was set: the management action of
    /// somebody who has looked after the storage.
    pub fn clear_latch(&self) -> Option<LatchCause> {
        self.shared().with(Coordinator::clear_latch)
    }

    /// The state for a snapshot. Take it from a quiesced device, after its
    /// file sync.
    pub fn save(&self) -> EngineState {
        self.shared().with(|c| c.save())
    }

    fn start(
        config: EngineConfig,
        backend: Arc<dyn SyncBackend>,
        observer: Arc<dyn Observer>,
        coordinator: impl FnOnce(SyncMode, SyncErrorPolicy) -> Coordinator,
    ) -> Result<Self, Error> {
        let filters = seccomp::programs(config.seccomp)?;
        #[cfg_attr(
            not(feature = "fault-injection"),
            expect(unused_mut, reason = "only a fault changes it")
        )]
        let mut coordinator = coordinator(config.sync, config.sync_error);
        #[cfg(feature = "fault-injection")]
        if config.fault == Some(Fault::OpenBatch) {
            coordinator.mutation = Some(Mutation::PopWhileSyncRuns);
        }
        let shared = Arc::new(Shared::new(config.id, coordinator, observer)?);
        Worker {
            shared: shared.clone(),
            backend,
            private: config.private.map(PrivatePages::new),
            filters,
            #[cfg(feature = "fault-injection")]
            late: match config.fault {
                Some(Fault::Late(time)) => Some(time),
                _ => None,
            },
        }
        .spawn()?;
        Ok(FlushEngine {
            owner: Arc::new(Owner {
                shared,
                #[cfg(feature = "fault-injection")]
                fault: config.fault,
            }),
        })
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.owner.shared
    }

    pub(crate) fn queue_dropped(&self, generation: Generation) {
        self.shared()
            .change(|c| ((), c.queue_dropped(generation, Instant::now())));
    }
}
