// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the control loop asks of a machine.
//!
//! No call here waits: what takes time is begun, its end is announced through
//! [`Machine::progress`], and then asked for. So the loop can answer `vmm.ping`
//! while a disk hangs.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use pmem_flush::FileStamp;
use serde_json::Value;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use crate::config::VmConfig;
use crate::events::EventSink;
use crate::snapshot::Snapshot;

/// Why a machine could not do something; its source chain goes to the API's answer.
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

/// How far something that was begun has come.
#[derive(Debug)]
pub enum Progress<T> {
    /// Not done; names what is waited for ("vCPU 0", "pmem device _pmem0").
    Pending(String),
    /// Done.
    Done(T),
    /// It will not be done: the reason by name.
    Failed(MachineError),
}

/// Makes machines.
pub trait MachineFactory {
    /// A machine whose guest is loaded and whose vCPUs are parked, ready for [`Machine::resume`].
    ///
    /// # Errors
    /// Names the file, option or device that does not fit.
    fn boot(&self, config: &VmConfig, events: &EventSink)
    -> Result<Box<dyn Machine>, MachineError>;

    /// A machine as it was when `snapshot` was taken, parked.
    ///
    /// A pmem file that has moved on since then is refused unless `allow_stale_pmem`.
    ///
    /// # Errors
    /// Names the file or device that does not fit.
    fn restore(
        &self,
        snapshot: &Snapshot,
        allow_stale_pmem: bool,
        events: &EventSink,
    ) -> Result<Box<dyn Machine>, MachineError>;
}

/// One virtual machine. Dropping it ends its vCPU threads and never waits for a
/// device's storage.
pub trait Machine: Send {
    /// Written whenever an answer of [`Self::pause_progress`], [`Self::sync_progress`]
    /// or [`Self::exit`] may have changed. The loop reads it; the machine never does.
    fn progress(&self) -> Arc<EventFd>;

    /// Lets vCPUs and devices run: the first time, and after a pause.
    ///
    /// # Errors
    /// The machine stays paused.
    fn resume(&mut self) -> Result<(), MachineError>;

    /// Asks every vCPU to park and every pmem device to drain, all at once, each
    /// device by its own `drain_timeout` from now.
    fn begin_pause(&mut self);

    /// Whether all vCPUs are parked and all devices are quiet. `Failed` when a
    /// device's deadline has passed ("drain timed out").
    fn pause_progress(&mut self) -> Progress<()>;

    /// Takes [`Self::begin_pause`] back: devices and vCPUs go on, no flush is lost.
    fn cancel_pause(&mut self);

    /// Starts the file sync of every pmem device on its own worker. Only when paused.
    /// With `allow_unsynced`, a latched or failing device counts as done.
    fn begin_sync(&mut self, allow_unsynced: bool);

    /// Whether all files are synced; then what each file looks like.
    fn sync_progress(&mut self) -> Progress<BTreeMap<String, FileStamp>>;

    /// The state of vCPUs, irqchip, clock, devices and queues. Only when paused.
    ///
    /// # Errors
    /// Names the part that cannot be read.
    fn save(&mut self) -> Result<Value, MachineError>;

    /// Guest RAM without pmem. The snapshot's writer reads it on a thread of its
    /// own while the machine is paused.
    fn ram(&self) -> GuestMemoryMmap;

    /// Every pmem device's counters by device id.
    fn counters(&self) -> BTreeMap<String, BTreeMap<String, u64>>;

    /// Presses the ACPI power button.
    ///
    /// # Errors
    /// The guest has no power button, or the event cannot be raised.
    fn power_button(&mut self) -> Result<(), MachineError>;

    /// How the guest ended, once it has.
    fn exit(&mut self) -> Option<GuestExit>;
}
