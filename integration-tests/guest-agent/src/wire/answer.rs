// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the guest says.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::verify::Report;
use crate::wire::LoadReport;

/// Any record of the guest.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum FromGuest {
    /// The agent is up and takes orders.
    Hello(Hello),
    /// An order was received whole and runs now, or runs still.
    Accepted {
        /// The order's id.
        id: u64,
    },
    /// An order's end.
    Answer(Answer),
    /// Something happened that nobody ordered.
    Event(Event),
    /// A line of the kernel's log.
    Kernel(KernelLine),
}

/// Who speaks.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Hello {
    /// The agent's version.
    pub version: String,
    /// The kernel's release.
    pub kernel: String,
    /// The kernel's command line.
    pub cmdline: String,
    /// The virtio-pmem driver that was loaded: `c`, `rust` or `none`.
    pub driver: String,
    /// Modules that could not be loaded, with the reason.
    pub warnings: Vec<String>,
}

/// An order's end.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Answer {
    /// The order's id.
    pub id: u64,
    /// How long it took, in microseconds of the guest's monotonic clock.
    pub elapsed_us: u64,
    /// What came of it.
    pub result: Result<Outcome, Failure>,
}

/// An order that could not be carried out.
#[derive(Clone, Debug, Deserialize, Eq, Error, PartialEq, Serialize)]
#[error("{message}")]
pub struct Failure {
    /// What sort of failure.
    pub kind: FailureKind,
    /// One line for a reader.
    pub message: String,
    /// The errno, if a system call failed.
    pub errno: Option<i32>,
}

/// What sort of failure it was.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The order makes no sense: an unknown name, a value out of range.
    BadOrder,
    /// A system call failed.
    System,
    /// It did not end within its time.
    Timeout,
    /// The agent itself is at fault.
    Internal,
}

/// What an order gave.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", content = "value")]
pub enum Outcome {
    /// Nothing more to say.
    Done,
    /// What runs.
    Status(Status),
    /// A program's end.
    Tool(ToolResult),
    /// The pmem devices.
    Devices(Vec<Device>),
    /// A load's counters.
    Load(LoadReport),
    /// A verification's result.
    Verify(Report),
    /// A file's content.
    Text(String),
    /// A device's counters.
    Block(BlockCounters),
    /// What a device did with a bad ring.
    Hostile(HostileReport),
}

/// What runs.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Status {
    /// Since boot, in milliseconds.
    pub uptime_ms: u64,
    /// Orders that have no answer yet.
    pub orders: Vec<RunningOrder>,
    /// Loads with a thread that has not ended.
    pub loads: Vec<String>,
    /// Damaged records received.
    pub damaged: u64,
}

/// An order that has no answer yet.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RunningOrder {
    /// Its id.
    pub id: u64,
    /// For how long, in milliseconds.
    pub running_ms: u64,
    /// What it does.
    pub what: String,
}

/// A program's end.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ToolResult {
    /// The exit code, if it ended by itself.
    pub rc: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// It was killed at its deadline.
    pub timed_out: bool,
    /// It was killed by a stop order.
    pub stopped: bool,
    /// Standard output and error in the order they came, the last 256 KiB.
    pub output: String,
    /// Output that is not in `output`, in bytes.
    pub cut: u64,
}

/// A pmem device.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Device {
    /// Its place in the order of the VMM's command line, from 0.
    pub index: usize,
    /// The block device, `/dev/pmem0`; none if the driver did not make one.
    pub path: Option<String>,
    /// The region's guest physical address.
    pub start: Option<u64>,
    /// The region's size in bytes.
    pub size: Option<u64>,
    /// The virtio device, `virtio2`.
    pub virtio: String,
    /// Its parent on the bus: a PCI function or a platform device.
    pub parent: String,
    /// The bound driver's name.
    pub driver: Option<String>,
    /// The registers' guest physical address, for virtio-mmio.
    pub registers: Option<u64>,
}

/// The block layer's counters (`/sys/block/*/stat`).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct BlockCounters {
    /// Completed reads.
    pub reads: u64,
    /// Completed writes.
    pub writes: u64,
    /// 512-byte sectors written.
    pub sectors_written: u64,
    /// Requests that run now.
    pub in_flight: u64,
    /// Completed flush requests; pmem has no request queue and counts none.
    pub flushes: u64,
}

/// What a device did with a ring that no proper driver would give it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct HostileReport {
    /// The case's name.
    pub case: String,
    /// `pci` or `mmio`.
    pub transport: String,
    /// The queue's size in descriptors.
    pub queue_size: u16,
    /// The chain came back in the used ring within the bound.
    pub answered: bool,
    /// How many entries came back.
    pub used_entries: u16,
    /// The first used entry's descriptor index.
    pub used_id: Option<u32>,
    /// The first used entry's length.
    pub used_len: Option<u32>,
    /// The response's value after that, preset to 0x5a5a5a5a; none if the chain has no response.
    pub response: Option<u32>,
    /// The device status afterwards.
    pub device_status: u8,
    /// The device status has NEEDS_RESET.
    pub needs_reset: bool,
    /// The interrupt status that was read (and so cleared) at the end: bit 0 queue, bit 1 config.
    pub interrupt_status: u32,
    /// The device status after the hold, if one was asked for.
    #[serde(default)]
    pub status_after_hold: Option<u8>,
    /// From the kick to the answer, NEEDS_RESET or the bound, in microseconds.
    pub time_us: u64,
    /// Memory around the device-writable buffers was left alone.
    pub guard_intact: bool,
    /// After a reset a proper flush was answered with 0 within the bound.
    pub recovered: bool,
    /// How long that flush took, in microseconds.
    pub recovery_us: u64,
    /// The least that any device owes: an answer or NEEDS_RESET within the bound, no byte
    /// written where it must not, and a good flush after a reset.
    pub bounded: bool,
    /// The case's own, stricter expectation holds too.
    pub ok: bool,
    /// What the expectation is, and what was missed.
    pub note: String,
}

/// Something that nobody ordered.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// A load's thread met its first error of this errno.
    LoadError {
        /// The load's name.
        name: String,
        /// Which thread.
        thread: u32,
        /// The errno.
        errno: i32,
        /// What was tried on which block.
        message: String,
    },
    /// All threads of a load have ended.
    LoadEnded {
        /// Its counters.
        report: LoadReport,
    },
    /// The agent cannot go on and powers the guest off.
    Fatal {
        /// Why.
        message: String,
    },
    /// A record came damaged; the sender will send it again.
    Damaged {
        /// What was wrong.
        why: String,
    },
    /// The guest powers off or reboots now.
    Leaving {
        /// `poweroff` or `reboot`.
        how: String,
    },
}

/// A line of the kernel's log.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct KernelLine {
    /// 0 (emergency) to 7 (debug).
    pub level: u8,
    /// Since boot, in microseconds.
    pub time_us: u64,
    /// What it says.
    pub text: String,
}
