// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Snapshot: sync the pmem files, read the machine's state, write the directory.
//!
//! The writing has a thread of its own. Whatever fails, the machine stays paused and
//! usable.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use log::{info, warn};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Busy, Control};
use crate::api::{ApiError, Reply, SnapshotConfig, VmError, VmState};
use crate::machine::MachineError;
use crate::snapshot::{Cancel, SnapshotError, directory, save};

/// How long the end of a machine waits for a writer that was called off to clean up.
const CLEAN_UP: Duration = Duration::from_secs(2);

/// A snapshot whose files are being synced.
pub struct SnapshotJob {
    dir: PathBuf,
    pub reply: Reply,
}

/// A snapshot that is being written.
pub struct SnapshotWriter {
    reply: Reply,
    writing: Writing,
}

/// The writer's thread, from outside.
struct Writing {
    cancel: Cancel,
    event: Arc<EventFd>,
    result: Receiver<Result<u64, SnapshotError>>,
}

impl SnapshotWriter {
    /// Readable when the writer has ended.
    pub fn event(&self) -> &EventFd {
        &self.writing.event
    }

    /// Ends the writer, which removes what it wrote, if it has not just done its work.
    pub fn call_off(self) {
        self.writing.cancel.cancel();
        let answer = match self.writing.result.recv_timeout(CLEAN_UP) {
            Ok(Ok(_)) => Ok(None),
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => Err(VmError::Ended),
            Err(RecvTimeoutError::Timeout) => {
                warn!("the snapshot's disk is too slow: its temporary files stay behind");
                Err(VmError::Ended)
            }
        };
        self.reply.send(answer.map_err(ApiError::Snapshot));
    }
}

impl Control {
    /// What a client of a snapshot gets when the machine ends under it.
    pub(super) fn snapshot_ended() -> ApiError {
        ApiError::Snapshot(VmError::Ended)
    }

    /// Begins a snapshot. `reply` has its answer when it ends.
    pub(super) fn begin_snapshot(&mut self, config: &SnapshotConfig, reply: Reply) {
        match self.try_begin_snapshot(config) {
            Ok(dir) => {
                if let Some(vm) = &mut self.vm {
                    vm.set_busy(Busy::Syncing(SnapshotJob { dir, reply }));
                }
            }
            Err(error) => reply.send(Err(ApiError::Snapshot(error))),
        }
    }

    fn try_begin_snapshot(&mut self, config: &SnapshotConfig) -> Result<PathBuf, VmError> {
        let vm = self.vm.as_mut().ok_or(VmError::NotRunning)?;
        vm.check_idle()?;
        if vm.state() != VmState::Paused {
            return Err(VmError::NotPaused);
        }
        let dir = directory(&config.destination_url)?;
        self.events.event("vm", "snapshotting", &[]);
        vm.machine.begin_sync(config.allow_unsynced_pmem)?;
        Ok(dir)
    }

    /// The files are synced: the rest can be written.
    pub(super) fn sync_ended(&mut self, job: SnapshotJob, result: Result<(), MachineError>) {
        let SnapshotJob { dir, reply } = job;
        if let Err(error) = result {
            return self.snapshot_failed(reply, error.into());
        }
        let writing = match self.begin_writing(dir) {
            Ok(writing) => writing,
            Err(error) => return self.snapshot_failed(reply, error),
        };
        match &mut self.vm {
            Some(vm) => vm.set_busy(Busy::Writing(SnapshotWriter { reply, writing })),
            None => reply.send(Err(Self::snapshot_ended())),
        }
    }

    fn begin_writing(&self, dir: PathBuf) -> Result<Writing, VmError> {
        let vm = self.vm.as_ref().ok_or(VmError::NotRunning)?;
        let config = self.config.clone().ok_or(VmError::NotCreated)?;
        let state = vm.machine.save()?;
        let ram = vm.machine.ram().map_err(VmError::Writer)?;
        let cancel = Cancel::default();
        let event = Arc::new(EventFd::new(EFD_NONBLOCK).map_err(VmError::Writer)?);
        let (sender, result) = sync_channel(1);
        let (thread_cancel, thread_event) = (cancel.clone(), event.clone());
        Builder::new()
            .name("snapshot".to_owned())
            .spawn(move || {
                let saved = save(&dir, &config, state, &ram, &thread_cancel);
                sender.send(saved).ok();
                thread_event.write(1).ok();
            })
            .map_err(VmError::Writer)?;
        Ok(Writing {
            cancel,
            event,
            result,
        })
    }

    /// The writer may have ended.
    pub(super) fn writer_moves_on(&mut self) {
        let Some(vm) = &mut self.vm else {
            return;
        };
        let Some(Busy::Writing(writer)) = vm.take_busy() else {
            return;
        };
        let result = match writer.writing.result.try_recv() {
            Ok(result) => result.map_err(VmError::from),
            Err(TryRecvError::Empty) => return vm.set_busy(Busy::Writing(writer)),
            Err(TryRecvError::Disconnected) => Err(VmError::WriterGone),
        };
        match result {
            Ok(written) => {
                info!("a snapshot with {written} bytes of RAM was written");
                self.event("vm", "snapshotted");
                writer.reply.send(Ok(None));
            }
            Err(error) => self.snapshot_failed(writer.reply, error),
        }
    }

    fn snapshot_failed(&self, reply: Reply, error: VmError) {
        warn!("the snapshot failed, the VM stays paused: {error}");
        self.event("vm", "snapshot-failed");
        reply.send(Err(ApiError::Snapshot(error)));
    }
}
