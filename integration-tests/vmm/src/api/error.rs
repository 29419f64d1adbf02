// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Errors as a client sees them: a chain, from what was asked to the cause.

use std::io;

use thiserror::Error;

use super::VmState;
use crate::machine::MachineError;
use crate::snapshot::SnapshotError;

/// What was asked for and could not be done. The texts are cloud-hypervisor's.
#[derive(Debug, Error)]
pub enum ApiError {
    /// `vm.info` or `vm.counters`.
    #[error("The VM info is not available")]
    Info(#[source] VmError),
    /// `vm.pause`.
    #[error("The VM could not be paused")]
    Pause(#[source] VmError),
    /// `vm.resume`.
    #[error("The VM could not resume")]
    Resume(#[source] VmError),
    /// `vm.snapshot`.
    #[error("The VM could not be snapshotted")]
    Snapshot(#[source] VmError),
    /// `vm.restore`.
    #[error("The VM could not be restored")]
    Restore(#[source] VmError),
    /// `vm.power-button`.
    #[error("Error triggering power button")]
    PowerButton(#[source] VmError),
    /// `vm.shutdown`.
    #[error("The VM could not shutdown")]
    Shutdown(#[source] VmError),
    /// The process ends.
    #[error("the VMM is shutting down")]
    Ending,
}

impl ApiError {
    /// The cause.
    #[must_use]
    pub fn cause(&self) -> Option<&VmError> {
        match self {
            Self::Info(cause)
            | Self::Pause(cause)
            | Self::Resume(cause)
            | Self::Snapshot(cause)
            | Self::Restore(cause)
            | Self::PowerButton(cause)
            | Self::Shutdown(cause) => Some(cause),
            Self::Ending => None,
        }
    }
}

/// Why a machine did not do it.
#[derive(Debug, Error)]
pub enum VmError {
    /// There is none.
    #[error("VM is not created")]
    NotCreated,
    /// There is one.
    #[error("VM is already created")]
    AlreadyCreated,
    /// There is none that could run.
    #[error("VM is not running")]
    NotRunning,
    /// It is doing something else.
    #[error("VM is busy: a {0} is under way; try again when it has ended")]
    Busy(&'static str),
    /// From the first state there is no way to the second.
    #[error("invalid VM state transition: {0:?} to {1:?}")]
    Transition(VmState, VmState),
    /// A snapshot needs a paused machine.
    #[error("VM is not paused; a snapshot needs vm.pause first")]
    NotPaused,
    /// The guest ended, or the machine was shut down, before it was done.
    #[error("the VM ended before that was done")]
    Ended,
    /// The snapshot's directory.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The snapshot's writer is gone.
    #[error("the snapshot's writer ended without a word")]
    WriterGone,
    /// No thread for the snapshot's writer.
    #[error("guest memory cannot be handed to the snapshot's writer")]
    Writer(#[source] io::Error),
    /// The machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
}
