// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Drives a virtio-pmem device's ring by hand, the way no proper driver would.
//!
//! The kernel's transport driver is unbound for that and bound again afterwards; registers
//! are reached through the PCI BAR in sysfs or, for virtio-mmio, through `/dev/mem`. There is
//! no interrupt handler, so the used ring and the device status are polled.
//!
//! Each case ends with a reset and a proper flush: whatever a guest did, the device must come
//! back.

mod case;
mod hold;
mod memory;
mod mmio;
mod pci;
mod ring;
mod transport;
mod unbind;

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

pub use case::Case;
pub use hold::HOLD;

use crate::hostile::case::{Addresses, Expect};
use crate::hostile::hold::Hold;
use crate::hostile::memory::Page;
use crate::hostile::ring::Ring;
use crate::hostile::transport::{NEEDS_RESET, Transport};
use crate::wire::{HostileReport, HostileTarget};

/// The response's bytes, and those around it, before the device writes.
const GUARD: u8 = 0x5a;

/// Why a case could not be run.
#[derive(Debug, Error)]
pub enum HostileError {
    /// The device is not there, or not one.
    #[error("--device {device}: {why}")]
    Device {
        /// What was asked for.
        device: String,
        /// What is wrong with it.
        why: String,
    },
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The device does not do what any virtio device does.
    #[error("the device {0}")]
    Virtio(String),
}

impl HostileError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            what: what.into(),
            source,
        }
    }
}

/// The ring and the buffers, a page each: both fit, so no two pages need be neighbours.
struct Memory {
    ring: Page,
    buffers: Page,
}

impl Memory {
    fn new() -> Result<Self, HostileError> {
        Ok(Self {
            ring: Page::new()?,
            buffers: Page::new()?,
        })
    }

    fn addresses(&self) -> Addresses {
        Addresses {
            request: self.buffers.address() + u64::from(Addresses::REQUEST),
            response: self.buffers.address() + u64::from(Addresses::RESPONSE),
        }
    }

    fn clear(&self) {
        self.ring.fill(0);
        self.buffers.fill(GUARD);
    }

    /// Tells whether no byte of the buffers' page changed but those the chain gave away.
    fn guard_intact(&self, before: &[u8], ring: &Ring) -> bool {
        let page = self.buffers.address();
        (page..)
            .zip(before.iter().zip(self.buffers.bytes()))
            .filter(|(_, (before, after))| **before != *after)
            .all(|(at, _)| ring.writable_holds(at))
    }
}

/// What the device did within the bound.
struct Observed {
    answered: bool,
    entries: u16,
    first: Option<(u32, u32)>,
    /// Each published head came back, once.
    each_once: bool,
    time: Duration,
}

/// Runs one case against a device.
///
/// # Errors
///
/// The device cannot be driven at all: it is not there, or registers or memory cannot be had.
/// What the device makes of the case is no error: it is in the report.
///
/// With `hold` the device is left as the case made it until somebody writes into [`HOLD`].
pub fn run(
    case: Case,
    target: &HostileTarget,
    bound: Duration,
    hold: bool,
) -> Result<HostileReport, HostileError> {
    let hold = hold.then(Hold::new).transpose()?;
    let memory = Memory::new()?;
    let (mut transport, bound_again) = transport::open(target)?;
    let device = transport.as_mut();
    let result = drive(case, device, &memory, bound, hold);
    // The device must let go of our pages before they are freed.
    let quiet = reset(device, bound);
    drop(transport);
    let rebound = bound_again.restore();
    let mut report = result?;
    quiet?;
    memory.ring.check_address()?;
    memory.buffers.check_address()?;
    if let Err(error) = rebound {
        report.note = format!("{}; {error}", report.note);
    }
    Ok(report)
}

fn drive(
    case: Case,
    device: &mut dyn Transport,
    memory: &Memory,
    bound: Duration,
    hold: Option<Hold>,
) -> Result<HostileReport, HostileError> {
    let size = start(device, memory, bound)?;
    if case == Case::Reset {
        // A flush under way is cut off by the reset.
        submit(device, memory, &Case::Good.ring(size, memory.addresses()));
        reset(device, bound)?;
        start(device, memory, bound)?;
    }
    let ring = case.ring(size, memory.addresses());
    let observed = submit_and_watch(device, memory, &ring, bound);
    let before = case.buffers();
    let status = device.status();
    let mut report = HostileReport {
        case: case.name().to_owned(),
        transport: device.name().to_owned(),
        queue_size: size,
        answered: observed.answered,
        used_entries: observed.entries,
        used_id: observed.first.map(|(id, _)| id),
        used_len: observed.first.map(|(_, len)| len),
        response: response(memory, &ring),
        device_status: status,
        needs_reset: status & NEEDS_RESET != 0,
        interrupt_status: device.interrupt_status(),
        time_us: micros(observed.time),
        guard_intact: memory.guard_intact(before.as_slice(), &ring),
        ..HostileReport::default()
    };
    if let Some(hold) = hold {
        hold.wait()?;
        report.status_after_hold = Some(device.status());
    }
    // It must come back whatever the case did to it.
    let recovery = recover(device, memory, bound);
    if let Ok(Some(time)) = &recovery {
        report.recovered = true;
        report.recovery_us = micros(*time);
    }
    judge(&mut report, case.expect(), observed.each_once);
    if let Err(error) = recovery {
        report.note = format!("{}; recovery: {error}", report.note);
    }
    Ok(report)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Resets and waits until the device says that it is (virtio 1.4, 2.4: status reads 0).
fn reset(device: &mut dyn Transport, bound: Duration) -> Result<(), HostileError> {
    let began = Instant::now();
    device.set_status(0);
    while device.status() != 0 {
        if began.elapsed() > bound {
            let status = device.status();
            return Err(HostileError::Virtio(format!(
                "is not reset after {bound:?}: its status is {status:#x}"
            )));
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// How often registers and the used ring are looked at.
const POLL: Duration = Duration::from_micros(50);

/// Resets the device and brings it to DRIVER_OK with an empty ring. Returns the queue's size.
fn start(
    device: &mut dyn Transport,
    memory: &Memory,
    bound: Duration,
) -> Result<u16, HostileError> {
    use transport::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, VERSION_1};
    reset(device, bound)?;
    memory.clear();
    device.set_status(ACKNOWLEDGE);
    device.set_status(ACKNOWLEDGE | DRIVER);
    if device.features() & VERSION_1 == 0 {
        return Err(HostileError::Virtio("does not offer VERSION_1".to_owned()));
    }
    device.set_features(VERSION_1);
    let agreed = ACKNOWLEDGE | DRIVER | FEATURES_OK;
    device.set_status(agreed);
    if device.status() & FEATURES_OK == 0 {
        return Err(HostileError::Virtio("refused VERSION_1 alone".to_owned()));
    }
    let size = device.max_queue_size().min(Ring::MAX_SIZE);
    if size < Ring::MIN_SIZE || !size.is_power_of_two() {
        return Err(HostileError::Virtio(format!(
            "has a queue of {size} descriptors"
        )));
    }
    let page = memory.ring.address();
    device.set_queue(
        size,
        page + Ring::DESCRIPTORS,
        page + Ring::AVAIL,
        page + Ring::USED,
    );
    device.set_status(agreed | DRIVER_OK);
    Ok(size)
}

/// Publishes a ring and kicks.
fn submit(device: &mut dyn Transport, memory: &Memory, ring: &Ring) {
    memory.buffers.copy(0, ring.buffers.as_slice());
    let bytes = ring.encode();
    // The index last: until then the device sees an empty ring.
    memory.ring.copy(0, &bytes[..Ring::AVAIL_IDX]);
    memory.ring.copy(
        Ring::AVAIL_IDX + 2,
        &bytes[Ring::AVAIL_IDX + 2..Ring::USED_AT],
    );
    memory.ring.set_u16(Ring::AVAIL_IDX, ring.avail_idx);
    device.kick();
}

fn submit_and_watch(
    device: &mut dyn Transport,
    memory: &Memory,
    ring: &Ring,
    bound: Duration,
) -> Observed {
    let began = Instant::now();
    submit(device, memory, ring);
    loop {
        let entries = memory.ring.u16_at(Ring::USED_AT + 2);
        let time = began.elapsed();
        let answered = entries >= ring.chains;
        if answered || device.status() & NEEDS_RESET != 0 || time > bound {
            let first = (entries > 0).then(|| {
                (
                    memory.ring.u32_at(Ring::USED_AT + 4),
                    memory.ring.u32_at(Ring::USED_AT + 8),
                )
            });
            return Observed {
                answered,
                entries,
                first,
                each_once: each_once(memory, ring, entries),
                time,
            };
        }
        thread::sleep(POLL);
    }
}

/// Tells whether the used ring holds each head of the avail ring, and no other.
fn each_once(memory: &Memory, ring: &Ring, entries: u16) -> bool {
    let mut ids: Vec<u32> = (0..usize::from(entries.min(Ring::MAX_SIZE)))
        .map(|entry| memory.ring.u32_at(Ring::USED_AT + 4 + entry * 8))
        .collect();
    let mut heads: Vec<u32> = ring.avail.iter().copied().map(u32::from).collect();
    ids.sort_unstable();
    heads.sort_unstable();
    ids == heads
}

/// Resets and flushes properly. Returns how long the flush took, if it succeeded.
fn recover(
    device: &mut dyn Transport,
    memory: &Memory,
    bound: Duration,
) -> Result<Option<Duration>, HostileError> {
    let size = start(device, memory, bound)?;
    let ring = Case::Good.ring(size, memory.addresses());
    let observed = submit_and_watch(device, memory, &ring, bound);
    let success = observed.first == Some((0, 4)) && memory.buffers.u32_at(Addresses::RESPONSE) == 0;
    Ok(success.then_some(observed.time))
}

/// The status that the device may have written: a chain with its directions swapped has its
/// only place for one where the request should be.
fn response(memory: &Memory, ring: &Ring) -> Option<u32> {
    let Addresses { request, response } = memory.addresses();
    [
        (response, Addresses::RESPONSE),
        (request, Addresses::REQUEST),
    ]
    .into_iter()
    .find(|(address, _)| ring.writable_holds(*address))
    .map(|(_, at)| memory.buffers.u32_at(at))
}

/// Holds a report against what the case may lead to.
fn judge(report: &mut HostileReport, expect: Expect, each_once: bool) {
    // Without a response to look at, a length of 4 is the claim that one was written.
    let success = report.answered
        && report.used_len.is_some_and(|len| len >= 4)
        && report.response.is_none_or(|response| response == 0);
    let (met, want) = match expect {
        Expect::Success => (
            success && each_once && report.used_len == Some(4) && !report.needs_reset,
            "each flush answered once with 0 and length 4",
        ),
        Expect::Answer => (
            report.answered || report.needs_reset,
            "answered in any way, or NEEDS_RESET",
        ),
        Expect::Refusal => (
            (report.answered && !success) || report.needs_reset,
            "answered without success, or NEEDS_RESET",
        ),
    };
    let mut missed = Vec::new();
    if !met {
        missed.push(if success && expect == Expect::Success {
            "the used ring holds other entries than one for each flush"
        } else if success {
            "it reported success"
        } else if report.answered {
            "the answer was another"
        } else {
            "it fell silent"
        });
    }
    if !report.guard_intact {
        missed.push("it wrote where it must not");
    }
    if !report.recovered {
        missed.push("no good flush after a reset");
    }
    report.bounded =
        (report.answered || report.needs_reset) && report.guard_intact && report.recovered;
    report.ok = missed.is_empty();
    report.note = if missed.is_empty() {
        format!("as expected: {want}")
    } else {
        format!("expected: {want}; missed: {}", missed.join(", "))
    };
}
