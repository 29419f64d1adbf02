// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A machine and what it is doing.

use super::snapshot::{SnapshotJob, SnapshotWriter};
use crate::api::{Reply, VmError, VmState};
use crate::machine::Machine;

/// A machine that exists.
pub struct RunningVm {
    pub machine: Box<dyn Machine>,
    /// [`VmState::Running`] or [`VmState::Paused`].
    state: VmState,
    busy: Option<Busy>,
}

/// What was begun and has not ended.
pub enum Busy {
    /// From running to paused.
    Pausing(Reply),
    /// Paused; the pmem files are being synced.
    Syncing(SnapshotJob),
    /// Paused; the snapshot is being written.
    Writing(SnapshotWriter),
}

impl RunningVm {
    /// A machine whose guest runs.
    pub fn running(machine: Box<dyn Machine>) -> Self {
        Self {
            machine,
            state: VmState::Running,
            busy: None,
        }
    }

    /// A machine that is parked.
    pub fn paused(machine: Box<dyn Machine>) -> Self {
        Self {
            state: VmState::Paused,
            ..Self::running(machine)
        }
    }

    /// What `vm.info` shows.
    pub fn state(&self) -> VmState {
        self.state
    }

    /// The pause has ended well.
    pub fn set_paused(&mut self) {
        self.state = VmState::Paused;
    }

    /// Refuses to begin anything while something is under way.
    pub fn check_idle(&self) -> Result<(), VmError> {
        match &self.busy {
            None => Ok(()),
            Some(Busy::Pausing(_)) => Err(VmError::Busy("pause")),
            Some(Busy::Syncing(_) | Busy::Writing(_)) => Err(VmError::Busy("snapshot")),
        }
    }

    /// Refuses to resume what is not paused.
    pub fn check_resumable(&self) -> Result<(), VmError> {
        self.check_idle()?;
        if self.state == VmState::Paused {
            Ok(())
        } else {
            Err(VmError::Transition(self.state, VmState::Running))
        }
    }

    /// From paused to running.
    pub fn resume(&mut self) -> Result<(), VmError> {
        self.check_resumable()?;
        self.machine.resume()?;
        self.state = VmState::Running;
        Ok(())
    }

    /// What is under way.
    pub fn busy(&self) -> Option<&Busy> {
        self.busy.as_ref()
    }

    /// Something is under way now.
    pub fn set_busy(&mut self, busy: Busy) {
        self.busy = Some(busy);
    }

    /// What was under way, which now is not.
    pub fn take_busy(&mut self) -> Option<Busy> {
        self.busy.take()
    }
}
