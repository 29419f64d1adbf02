// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the control loop asks of a machine: the one on KVM, or a fake in tests.
//!
//! No call here waits: what takes time is begun, and [`Machine::poll`] says how it
//! ended. So the loop can answer `vmm.ping` while a disk hangs.

#[cfg(test)]
pub mod fake;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Instant;

use pmem_flush::LatchCause;
use serde_json::Value;

use crate::config::VmConfig;
use crate::events::EventSink;
use crate::snapshot::{RamRegion, Snapshot};

/// Why a machine could not do something; its source chain goes into the API's answer.
pub type MachineError = Box<dyn Error + Send + Sync>;

/// How a machine's guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestExit {
    /// The guest powered off (ACPI S5).
    Shutdown,
    /// The guest asked for a reset or met a triple fault.
    Reset,
    /// A vCPU cannot go on: what KVM said.
    Failed(String),
}

/// Guest RAM as one file, for the snapshot's writer.
#[derive(Debug)]
pub struct Ram {
    /// The memfd that is guest RAM.
    pub file: File,
    /// What is where in it.
    pub regions: Vec<RamRegion>,
}

/// Makes machines.
pub trait MachineFactory {
    /// A machine whose guest runs.
    ///
    /// # Errors
    /// Names the file, option or device that does not fit.
    fn boot(
        &self,
        config: &VmConfig,
        events: &Arc<dyn EventSink>,
    ) -> Result<Box<dyn Machine>, MachineError>;

    /// A paused machine, as it was when `snapshot` was taken.
    ///
    /// A pmem file that has moved on since then is refused unless `allow_stale_pmem`.
    ///
    /// # Errors
    /// Names the file or device that does not fit.
    fn restore(
        &self,
        snapshot: &Snapshot,
        allow_stale_pmem: bool,
        events: &Arc<dyn EventSink>,
    ) -> Result<Box<dyn Machine>, MachineError>;
}

/// One virtual machine. Dropping it ends its vCPU threads and never waits for a
/// device's storage.
pub trait Machine {
    /// Asks every vCPU to park and every pmem device to drain, all at once, each device
    /// by its own `drain_timeout` from now. Only when running.
    ///
    /// # Errors
    /// The machine still runs.
    fn begin_pause(&mut self) -> Result<(), MachineError>;

    /// Starts the sync of every pmem file on its device's own worker, by the same
    /// deadline rule, and then records what the files look like. Only when paused.
    /// With `allow_unsynced` a latched or failing device counts as done.
    ///
    /// # Errors
    /// A latched device, by name. The machine stays paused.
    fn begin_sync(&mut self, allow_unsynced: bool) -> Result<(), MachineError>;

    /// Readable when [`Self::poll`] has something to do; `poll` empties it.
    fn progress_fd(&self) -> RawFd;

    /// When [`Self::poll`] must be called at the latest; `None` if nothing is under way.
    fn deadline(&self) -> Option<Instant>;

    /// Moves the pause or sync that was begun on. `None`: not done yet, or nothing under way.
    /// After a failed pause the machine runs; after a failed sync it stays paused.
    fn poll(&mut self) -> Option<Result<(), MachineError>>;

    /// Lets vCPUs and devices run after a pause or a restore.
    ///
    /// # Errors
    /// The machine stays paused.
    fn resume(&mut self) -> Result<(), MachineError>;

    /// The state of vCPUs, irqchip, clock, devices, queues and what the pmem files look
    /// like. Only when paused and synced.
    ///
    /// # Errors
    /// Names the part that cannot be read.
    fn save(&self) -> Result<Value, MachineError>;

    /// Guest RAM without pmem. The snapshot's writer reads it on a thread of its own
    /// while the machine is paused.
    ///
    /// # Errors
    /// The file descriptor cannot be doubled.
    fn ram(&self) -> io::Result<Ram>;

    /// Every pmem device's counters by device id.
    fn counters(&self) -> BTreeMap<String, BTreeMap<&'static str, u64>>;

    /// Why pmem devices are latched, by device id. A reboot does not make their files any better:
    /// the next machine gets it in its configuration.
    fn latches(&self) -> BTreeMap<String, LatchCause>;

    /// Presses the ACPI power button.
    ///
    /// # Errors
    /// The event cannot be raised.
    fn power_button(&self) -> Result<(), MachineError>;

    /// Readable when the guest has ended or cannot go on.
    fn exit_fd(&self) -> RawFd;

    /// How the guest ended, once [`Self::exit_fd`] is readable.
    fn exit_reason(&self) -> Option<GuestExit>;
}
