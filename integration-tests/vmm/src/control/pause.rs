// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Pause: begun by a request, ended by the machine.

use log::warn;

use super::{Busy, Control};
use crate::api::{ApiError, Reply, VmError, VmState};

impl Control {
    /// Begins a pause. `reply` has its answer when it ends.
    pub(super) fn begin_pause(&mut self, reply: Reply) {
        match self.try_begin_pause() {
            Ok(()) => {
                if let Some(vm) = &mut self.vm {
                    vm.set_busy(Busy::Pausing(reply));
                }
            }
            Err(error) => reply.send(Err(ApiError::Pause(error))),
        }
    }

    fn try_begin_pause(&mut self) -> Result<(), VmError> {
        let vm = self.vm.as_mut().ok_or(VmError::NotRunning)?;
        vm.check_idle()?;
        if vm.state() != VmState::Running {
            return Err(VmError::Transition(vm.state(), VmState::Paused));
        }
        self.events.event("vm", "pausing", &[]);
        Ok(vm.machine.begin_pause()?)
    }

    /// Moves what is under way on.
    pub(super) fn move_on(&mut self) {
        let Some(vm) = &mut self.vm else {
            return;
        };
        // Also when nothing of the machine's is under way (a sync that was given up may end
        // late): `poll` is what empties its event.
        let result = vm.machine.poll();
        if let Some(Busy::Writing(_)) = vm.busy() {
            return self.writer_moves_on();
        }
        let Some(result) = result else {
            return;
        };
        match vm.take_busy() {
            Some(Busy::Pausing(reply)) => match result {
                Ok(()) => {
                    vm.set_paused();
                    self.event("vm", "paused");
                    reply.send(Ok(None));
                }
                Err(error) => {
                    warn!("the pause failed, the VM goes on: {error}");
                    self.event("vm", "pause-failed");
                    reply.send(Err(ApiError::Pause(error.into())));
                }
            },
            Some(Busy::Syncing(job)) => self.sync_ended(job, result),
            Some(Busy::Writing(_)) | None => {
                warn!("the machine ended something that nobody began: {result:?}");
            }
        }
    }
}
