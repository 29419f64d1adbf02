// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The VMM thread: one loop that answers the API and moves the machine on.
//!
//! Nothing in the loop waits for a device or a disk. A pause, a sync and the writing
//! of a snapshot are begun, and the loop goes on with what comes; their client has its
//! answer when they end. Only booting and restoring, before a machine exists, take
//! their time here.

mod error;
mod guest;
mod machine;
mod pause;
mod requests;
mod snapshot;
mod wait;

use std::sync::Arc;

use log::info;

pub use self::error::ControlError;
use self::machine::{Busy, RunningVm};
pub use self::wait::StopSignal;
use crate::api::{ApiError, Mailbox, VmError};
use crate::config::{Action, RestoreConfig, VmConfig};
use crate::events::EventSink;
use crate::machine::MachineFactory;
use crate::snapshot::{Snapshot, directory};

/// The VMM's state.
pub struct Control {
    factory: Box<dyn MachineFactory>,
    events: Arc<dyn EventSink>,
    mailbox: Mailbox,
    stop: StopSignal,
    /// The machine's configuration: from its start or restore on, also after its shutdown.
    config: Option<VmConfig>,
    vm: Option<RunningVm>,
    /// The process is to end.
    ending: bool,
}

impl Control {
    /// A VMM without a machine. `stop` tells it to end.
    #[must_use]
    pub fn new(
        factory: Box<dyn MachineFactory>,
        events: Arc<dyn EventSink>,
        mailbox: Mailbox,
        stop: StopSignal,
    ) -> Self {
        Self {
            factory,
            events,
            mailbox,
            stop,
            config: None,
            vm: None,
            ending: false,
        }
    }

    /// Does what the command line asked for, then answers until the guest has ended, a
    /// client or a signal says so. Then nothing of the machine is left.
    ///
    /// # Errors
    /// The machine cannot be started, or cannot go on: the reason.
    pub fn run(mut self, first: Action) -> Result<(), ControlError> {
        self.event("vmm", "starting");
        match first {
            Action::Wait => {}
            Action::Boot(config) => self.boot(*config).map_err(ControlError::Boot)?,
            Action::Restore(restore) => self.restore(&restore).map_err(ControlError::Restore)?,
        }
        while !self.ending {
            let ready = self.wait().map_err(ControlError::Wait)?;
            if ready.stop {
                info!("a signal ends the VMM");
                break;
            }
            // The guest's end comes first: what it ends need not be moved on.
            if ready.exit {
                self.guest_exit()?;
            }
            self.move_on();
            if ready.requests {
                for request in self.mailbox.take() {
                    self.answer(request);
                }
            }
        }
        self.end();
        Ok(())
    }

    fn event(&self, source: &str, event: &str) {
        self.events.event(source, event, &[]);
    }

    fn boot(&mut self, config: VmConfig) -> Result<(), VmError> {
        self.event("vm", "booting");
        let machine = self.factory.boot(&config, &self.events)?;
        self.config = Some(config);
        self.vm = Some(RunningVm::running(machine));
        self.event("vm", "booted");
        Ok(())
    }

    fn restore(&mut self, restore: &RestoreConfig) -> Result<(), VmError> {
        if self.config.is_some() {
            return Err(VmError::AlreadyCreated);
        }
        self.event("vm", "restoring");
        let dir = directory(&restore.source_url)?;
        let snapshot = Snapshot::open(&dir)?;
        let machine = self
            .factory
            .restore(&snapshot, restore.allow_stale_pmem, &self.events)?;
        let mut vm = RunningVm::paused(machine);
        if restore.resume {
            vm.resume()?;
        }
        self.config = Some(snapshot.config().clone());
        self.vm = Some(vm);
        self.event("vm", "restored");
        Ok(())
    }

    /// Ends the machine, if there is one. Who waits for something it was doing learns it.
    fn shutdown(&mut self) -> bool {
        let ended = self.drop_vm();
        if ended {
            self.event("vm", "shutdown");
        }
        ended
    }

    fn drop_vm(&mut self) -> bool {
        let Some(mut vm) = self.vm.take() else {
            return false;
        };
        match vm.take_busy() {
            Some(Busy::Pausing(reply)) => {
                reply.send(Err(ApiError::Pause(VmError::Ended)));
            }
            Some(Busy::Syncing(job)) => job.reply.send(Err(Self::snapshot_ended())),
            Some(Busy::Writing(writer)) => writer.call_off(),
            None => {}
        }
        true
    }

    /// The last thing: the order is guest, devices, events.
    fn end(&mut self) {
        self.shutdown();
        if self.config.take().is_some() {
            self.event("vm", "deleted");
        }
        self.event("vmm", "shutdown");
    }
}

#[cfg(test)]
mod tests;
