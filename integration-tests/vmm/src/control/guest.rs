// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What follows when the guest ends by itself.

use log::info;

use super::{Control, ControlError};
use crate::machine::GuestExit;

impl Control {
    /// The guest has ended: powers the VMM off, or boots again, or gives up, as
    /// cloud-hypervisor does.
    pub(super) fn guest_exit(&mut self) -> Result<(), ControlError> {
        let Some(exit) = self.vm.as_ref().and_then(|vm| vm.machine.exit_reason()) else {
            return Ok(());
        };
        info!("the guest ended: {exit:?}");
        match exit {
            GuestExit::Shutdown => {
                self.ending = true;
                Ok(())
            }
            GuestExit::Reset => {
                self.event("vm", "rebooting");
                let latches = (self.vm.as_ref()).map(|vm| vm.machine.latches());
                // The old machine goes first: it holds the pmem files' locks.
                self.drop_vm();
                let Some(mut config) = self.config.clone() else {
                    self.ending = true;
                    return Ok(());
                };
                let mut latches = latches.unwrap_or_default();
                for pmem in &mut config.pmem {
                    pmem.latch = latches.remove(&pmem.id);
                }
                match self.boot(config) {
                    Ok(()) => {
                        self.event("vm", "rebooted");
                        Ok(())
                    }
                    Err(error) => {
                        self.end();
                        Err(ControlError::Reboot(error))
                    }
                }
            }
            GuestExit::Failed(reason) => {
                self.events
                    .event("vm", "failed", &[("reason", reason.as_str())]);
                self.end();
                Err(ControlError::Guest(reason))
            }
        }
    }
}
