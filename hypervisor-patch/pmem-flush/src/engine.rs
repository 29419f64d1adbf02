// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! The long-lived side of a device: its file's worker, latch and counters, and
//! what management asks of it.

use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use vm_memory::GuestAddressSpace;
use vmm_sys_util::eventfd::EventFd;

use crate::backend::SyncBackend;
use crate::config::EngineConfig;
use crate::counters::Counters;
use crate::device::{Activation, FlushQueue};
use crate::error::Error;
use crate::event::Observer;
use crate::latch::LatchCause;
use crate::signal::Signal;
use crate::stamp::FileStamp;
use crate::state::EngineState;
use crate::translate::Translate;

/// What a device is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeviceState {
    /// Flushes are taken and answered.
    Running,
    /// Nothing is popped any more, the running sync has not ended yet.
    Draining,
    /// Every popped request is answered, nothing is popped.
    Quiesced,
    /// The ring is inconsistent; the device waits for its driver to reset it.
    Failed,
}

/// How the last drain stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DrainStatus {
    /// None was begun since the device last ran.
    None,
    /// The running sync has not ended yet.
    Pending,
    /// The device is quiesced.
    Drained,
    /// The deadline passed first. The device goes on.
    TimedOut,
    /// A cancel, or a resume, came first. The device goes on.
    Cancelled,
}

/// One virtio-pmem device's engine and the handle for it: clones are the same
/// device, usable from every thread. The last one to go, queues included,
/// ends the worker, without waiting for it.
#[derive(Clone)]
pub struct FlushEngine {
    inner: Arc<()>,
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
        todo!(
            "{config:?} {}",
            Arc::strong_count(&backend) + Arc::strong_count(&observer)
        )
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
        todo!(
            "{config:?} {state:?} {}",
            Arc::strong_count(&backend) + Arc::strong_count(&observer)
        )
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
        todo!("{:?}", activation.queue)
    }

    /// Ends the activation, if there is one: requests in flight are dropped,
    /// the queue's event methods do nothing from now on. Returns once the
    /// queue's memory is no longer touched; never waits for storage.
    ///
    /// Dropping the [`FlushQueue`] does the same.
    pub fn reset(&self) {
        todo!("{}", Arc::strong_count(&self.inner))
    }

    /// Asks the device to quiesce: nothing is popped any more. Returns at
    /// once. Begin all devices' drains, then wait for each; one deadline
    /// for all. On a quiesced device this does nothing, on a draining one it
    /// replaces the deadline.
    pub fn begin_drain(&self, deadline: Instant) {
        todo!("{deadline:?}")
    }

    /// How the drain stands. A drain found pending past its deadline is called
    /// off here: [`DrainStatus::TimedOut`], and the device goes on.
    pub fn poll_drain(&self) -> DrainStatus {
        todo!()
    }

    /// Waits for the drain's end, at most until its deadline.
    ///
    /// # Errors
    ///
    /// [`Error::DrainTimedOut`]: the device goes on. [`Error::DrainCancelled`].
    pub fn wait_drain(&self) -> Result<(), Error> {
        todo!()
    }

    /// Calls a pending drain off; the device goes on. A drained device stays
    /// quiesced.
    pub fn cancel_drain(&self) {
        todo!()
    }

    /// Lets a quiesced or draining device run; what the guest kicked
    /// meanwhile is popped.
    pub fn resume(&self) {
        todo!()
    }

    /// Readable whenever a drain or a file sync has made progress: poll both
    /// then. The host reads it.
    pub fn management_evt(&self) -> &EventFd {
        todo!()
    }

    /// Starts the snapshot's sync of the file, on the worker. Every device of
    /// the VM must be quiesced, as another one may still write into this
    /// one's memory.
    ///
    /// With `allow_unsynced` a latched file, a failing and a late sync are no
    /// error: for those who want the state anyway.
    ///
    /// # Errors
    ///
    /// [`Error::NotQuiesced`], [`Error::FileSyncBusy`], [`Error::Latched`].
    pub fn begin_file_sync(&self, deadline: Instant, allow_unsynced: bool) -> Result<(), Error> {
        todo!("{deadline:?} {allow_unsynced}")
    }

    /// The file sync's result, once. The stamp is None only by override, if
    /// the storage did not answer in time.
    ///
    /// # Errors
    ///
    /// [`Error::FileSync`], [`Error::Stamp`], [`Error::Latched`],
    /// [`Error::FileSyncTimedOut`], [`Error::NoFileSync`].
    pub fn poll_file_sync(&self) -> Poll<Result<Option<FileStamp>, Error>> {
        todo!()
    }

    /// Waits for the file sync's result, at most until its deadline.
    ///
    /// # Errors
    ///
    /// As [`Self::poll_file_sync`].
    pub fn wait_file_sync(&self) -> Result<Option<FileStamp>, Error> {
        todo!()
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
        todo!()
    }

    /// What the device is doing.
    pub fn device_state(&self) -> DeviceState {
        todo!()
    }

    /// The counters at this moment.
    pub fn counters(&self) -> Counters {
        todo!()
    }

    /// The first failed sync's error if the latch is set.
    pub fn latch(&self) -> Option<LatchCause> {
        todo!()
    }

    /// Clears the latch, and returns why it was set: the management action of
    /// somebody who has looked after the storage.
    pub fn clear_latch(&self) -> Option<LatchCause> {
        todo!()
    }

    /// The state for a snapshot. Take it from a quiesced device, after its
    /// file sync.
    pub fn save(&self) -> EngineState {
        todo!()
    }
}
