// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Why the VMM ended badly.

use std::io;

use thiserror::Error;

use crate::api::VmError;

/// What ends the process with an error.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The machine of the command line does not start.
    #[error("the VM could not boot")]
    Boot(#[source] VmError),
    /// The snapshot of the command line does not fit.
    #[error("the VM could not be restored")]
    Restore(#[source] VmError),
    /// The guest asked for a reset, and the machine does not start again.
    #[error("the VM could not reboot")]
    Reboot(#[source] VmError),
    /// A vCPU cannot go on.
    #[error("the guest cannot go on: {0}")]
    Guest(String),
    /// The loop cannot wait.
    #[error("the VMM cannot wait for events")]
    Wait(#[source] io::Error),
}
