// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The virtual machine monitor under test, whichever it is.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use crate::inside::context::Missing;

mod http;
mod qemu;
mod receiving;
mod rest;

pub use qemu::Qemu;
pub use receiving::Receiving;
pub use rest::{Rest, counted};

/// A `--pmem` device.
#[derive(Clone, Debug, Default)]
pub struct Pmem {
    /// Writes stay private to the guest.
    pub discard_writes: bool,
    /// Seconds a drain may take; the VMM's default if absent.
    pub drain_timeout: Option<u64>,
    /// The bad character to give the device, for builds that have one.
    pub fault: Option<String>,
    /// The backing file.
    pub file: PathBuf,
    /// The device's name.
    pub id: String,
    /// What a failed sync means for later flushes: `latch` or `report`.
    pub sync_error: Option<&'static str>,
}

impl Pmem {
    /// A device with nothing but a name and a file.
    pub fn new(id: &str, file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            id: id.to_owned(),
            ..Self::default()
        }
    }
}

/// What to boot.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The kernel's command line.
    pub cmdline: String,
    /// Number of virtual CPUs.
    pub cpus: u8,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// The kernel, a bzImage.
    pub kernel: PathBuf,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// Names its serial line's socket, where guests run beside each other; else empty.
    pub name: &'static str,
    /// The pmem devices, in the order the guest numbers them.
    pub pmem: Vec<Pmem>,
}

/// What to restore.
#[derive(Clone, Debug)]
pub struct Restore {
    /// Take a file that has moved on since the snapshot.
    pub allow_stale: bool,
    /// The snapshot's folder.
    pub from: PathBuf,
}

/// Something a VMM may lack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Capability {
    /// The device's own counters in `vm.counters`.
    Counters,
    /// `drain_timeout=` on a pmem device.
    DrainTimeout,
    /// A private mapping (`discard_writes=on`).
    DiscardWrites,
    /// Devices that come and go while the guest runs.
    Hotplug,
    /// Sending a running guest to another process.
    Migration,
    /// `fault=` on a pmem device: one of bad character.
    Fault,
    /// Snapshot and restore.
    Snapshot,
    /// A restore that refuses a file which has moved on.
    StaleCheck,
    /// `sync_error=` on a pmem device.
    SyncError,
}

impl fmt::Display for Capability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Counters => "flush counters in vm.counters",
            Self::DrainTimeout => "the pmem option drain_timeout",
            Self::DiscardWrites => "the pmem option discard_writes",
            Self::Hotplug => "hotplug",
            Self::Migration => "live migration",
            Self::Fault => "the pmem option fault",
            Self::Snapshot => "snapshot and restore",
            Self::StaleCheck => "a check of the pmem file at restore",
            Self::SyncError => "the pmem option sync_error",
        })
    }
}

/// A management call that the VMM refused.
#[derive(Debug)]
pub struct Refused {
    /// What was asked for.
    pub call: String,
    /// What it answered.
    pub text: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} was refused: {}", self.call, self.text.trim())
    }
}

impl Error for Refused {}

/// Takes the refusal that a rule demands, named by `word`; anything else fails.
pub fn refusal<T>(result: Result<T>, what: &str, word: &str) -> Result<String> {
    let error = match result {
        Ok(_) => bail!("{what} was accepted; it must be refused by the name `{word}`"),
        Err(error) => error,
    };
    match error.downcast_ref::<Refused>() {
        Some(refused) if refused.text.to_lowercase().contains(word) => Ok(refused.text.clone()),
        Some(refused) => bail!(
            "{what} was refused without the name `{word}`: {}",
            refused.text
        ),
        None => Err(error.context(format!("{what} failed in another way than by a refusal"))),
    }
}

/// One device's counters.
pub type Counters = BTreeMap<String, u64>;

/// A running VMM process with its guest.
pub trait Machine {
    /// Pauses the guest.
    fn pause(&mut self) -> Result<()>;
    /// Lets the guest go on.
    fn resume(&mut self) -> Result<()>;
    /// Writes a snapshot of the paused guest into an empty folder.
    fn snapshot(&mut self, into: &Path, allow_unsynced: bool) -> Result<()>;
    /// Wakes a guest that sleeps, or presses the power button of one that does not.
    fn wake(&mut self) -> Result<()>;
    /// Whether a sleeping guest is woken by its serial line, as the power button does not.
    fn woken_by_serial(&self) -> bool {
        false
    }
    /// Takes the device `id` out of the running guest.
    fn unplug(&mut self, id: &str) -> Result<()>;
    /// The counters of the device `id`, if the VMM counts flushes.
    fn counters(&mut self, id: &str) -> Result<Option<Counters>>;
    /// `Running`, `Paused`, …
    fn state(&mut self) -> Result<String>;
    /// Ends guest and process through the management interface.
    fn shutdown(&mut self, within: Duration) -> Result<()>;
    /// Kills the process.
    fn kill(&mut self) -> Result<()>;
    /// Waits for the process's own end; returns its exit code.
    fn wait(&mut self, within: Duration) -> Result<i32>;
    /// The process's number.
    fn process(&self) -> u32;
    /// What the process's threads do, for a log.
    fn threads(&self) -> String;
    /// Fails if the process has ended.
    fn alive(&mut self) -> Result<()>;
    /// The socket of the guest's first serial line.
    fn serial(&self) -> &Path;
    /// The event log, if the VMM writes one.
    fn events(&self) -> Option<&Path>;

    /// Adds a device to the running guest.
    fn add_pmem(&mut self, _pmem: &Pmem) -> Result<()> {
        Err(missing(Capability::Hotplug))
    }

    /// Asks the guest to give a device up.
    fn remove_device(&mut self, _id: &str) -> Result<()> {
        Err(missing(Capability::Hotplug))
    }

    /// Whether there is such a device; a removed one is there until the guest
    /// has given it up.
    fn has_device(&mut self, _id: &str) -> Result<bool> {
        Err(missing(Capability::Hotplug))
    }

    /// Begins to send the running guest to a process that listens there. When
    /// it has gone this process ends.
    fn send(&mut self, _to: &Path) -> Result<()> {
        Err(missing(Capability::Migration))
    }
}

/// Starts machines of one kind, and knows what they can do.
pub trait Maker {
    /// Boots a guest. `index` numbers the trial's processes.
    fn boot(&self, boot: &Boot, index: usize) -> Result<Box<dyn Machine>>;
    /// Restores a guest, paused, into a new process.
    fn restore(&self, restore: &Restore, index: usize) -> Result<Box<dyn Machine>>;
    /// Starts a process that waits for a guest to be sent to it.
    fn receive(&self, _index: usize) -> Result<Receiving> {
        Err(missing(Capability::Migration))
    }
    /// Whether the VMM has something. Asked before any guest runs, except for
    /// [`Capability::Counters`], which only a running guest shows.
    fn has(&self, capability: Capability) -> Result<bool>;
    /// What it says its version is.
    fn version(&self) -> Result<String>;
}

/// A trial that needs what the VMM lacks is skipped, by the name of it.
pub fn missing(what: Capability) -> anyhow::Error {
    anyhow!(Missing(format!("this VMM lacks {what}")))
}
