// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What several scenarios do in the same way.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use guest_agent::verify::{Report, verify};
use guest_agent::wire::{AckPlace, LoadKind, LoadReport, LoadSpec};

use crate::inside::context::Context;
use crate::inside::disk::Backing;
use crate::inside::guest::{Guest, SHORT};
use crate::inside::machine::{Counters, refusal};
use crate::inside::wait;
use crate::job::Driver;

/// Size of a data device for raw loads and for ext4.
pub const DATA_BYTES: u64 = 64 << 20;

/// Blocks each thread of a load overwrites.
pub const BLOCKS: u64 = 64;

/// How long a load may take to stop, with an ordinary disk below.
pub const STOP: Duration = Duration::from_secs(60);

/// A second load's place on the ack device, in bytes.
pub const SECOND_ACK: u64 = 1 << 20;

/// Overwrites of a raw device, acked on the ack device.
pub fn raw_load(context: &Context, device: &str, threads: u32, ack: &str, offset: u64) -> LoadSpec {
    let kind = LoadKind::Raw {
        device: device.to_owned(),
    };
    acked(context, kind, threads, ack, offset)
}

/// Any load, acked on the ack device. Its content is its own: what an earlier one left in its place
/// is not taken for it.
pub fn acked(context: &Context, kind: LoadKind, threads: u32, ack: &str, offset: u64) -> LoadSpec {
    let mut spec = LoadSpec::new(kind, threads, BLOCKS, context.load_seed());
    spec.ack = Some(AckPlace {
        device: ack.to_owned(),
        offset,
    });
    spec
}

/// Every acked write is in the data, or the scenario fails.
pub fn verified(data: &Path, ack: &Path, offset: u64) -> Result<Report> {
    let report = verify(data, ack, offset)?;
    if !report.holds() {
        let first = report.bad_blocks.first();
        bail!(
            "{}: of {} acked blocks of the load with seed {} {} are not as acked; the first: {first:?}",
            data.display(),
            report.acked,
            report.seed,
            report.bad,
        );
    }
    Ok(report)
}

/// The same after the load has ended: each of its fsyncs has an ack, too.
pub fn all_verified(data: &Path, ack: &Path, report: &LoadReport) -> Result<Report> {
    let found = verified(data, ack, 0)?;
    ensure!(
        found.fsyncs == report.fsyncs,
        "the acks count {} fsyncs: {report:?}",
        found.fsyncs
    );
    Ok(found)
}

/// The guest met no error.
pub fn no_errors(report: &LoadReport) -> Result<()> {
    if report.errors > 0 {
        let first = report
            .threads
            .iter()
            .find_map(|thread| thread.first_error.as_deref());
        let first = first.unwrap_or("unknown");
        bail!(
            "the load `{}` met {} errors; the first: {first}",
            report.name,
            report.errors
        );
    }
    ensure!(
        report.fsyncs > 0,
        "the load `{}` did no sync at all",
        report.name
    );
    Ok(())
}

/// A counter's value.
pub fn value(counters: &Counters, name: &str) -> Result<u64> {
    match counters.get(name) {
        Some(value) => Ok(*value),
        None => bail!("vm.counters has no `{name}`"),
    }
}

/// Each flush was answered once: as many fsyncs in the guest as answers by the
/// device. Only where the guest's driver sends one flush for each fsync.
pub fn answered_once(
    context: &Context,
    fsyncs: u64,
    before: &Counters,
    after: &Counters,
) -> Result<()> {
    let answered = value(after, "flushes")? - value(before, "flushes")?;
    context.measure("guest_fsyncs", fsyncs);
    context.measure("flushes_answered", answered);
    match context.trial.driver {
        Driver::C if answered != fsyncs => {
            bail!("the guest counts {fsyncs} fsyncs, the device {answered} answers")
        }
        Driver::Rust if answered > fsyncs => {
            bail!("the device answered {answered} flushes for {fsyncs} fsyncs")
        }
        _ => Ok(()),
    }
}

/// A pause, looked at from the device's side.
pub struct ObservedPause {
    /// Requests in flight just before it.
    pub in_flight: u64,
    /// It met a flush in flight: the device saw one just before, and the drain
    /// had to wait.
    pub met: bool,
    /// The counters after it.
    pub parked: Counters,
    /// How long the call took.
    pub took: Duration,
}

/// A drain that took longer has waited for a sync; an idle one takes microseconds.
const WAITED_US: u64 = 2_000;

/// Waits until a host sync has just begun and pauses the guest at once; every
/// request that was popped must be answered then.
pub fn pause_observed(guest: &mut Guest, id: &str) -> Result<ObservedPause> {
    pause_observed_by(Guest::pause, guest, id)
}

/// The same with another way to pause.
pub fn pause_observed_by(
    pause: impl FnOnce(&mut Guest) -> Result<Duration>,
    guest: &mut Guest,
    id: &str,
) -> Result<ObservedPause> {
    let syncs = value(&guest.counters(id)?, "host_syncs")?;
    let running = wait::until_just_now("a flush in flight", SHORT, || {
        let counters = guest.counters(id)?;
        let fresh = value(&counters, "host_syncs")? > syncs;
        Ok((fresh && value(&counters, "in_flight")? > 0).then_some(counters))
    })?;
    let took = pause(guest)?;
    let parked = guest.counters(id)?;
    let in_flight = value(&running, "in_flight")?;
    ensure!(
        value(&parked, "in_flight")? == 0,
        "paused with a request popped and not answered: {parked:?}"
    );
    ensure!(
        value(&parked, "flushes")? >= value(&running, "flushes")? + in_flight,
        "the pause lost a flush that was in flight: {running:?}, then {parked:?}"
    );
    let waited = "drain_time_us_sum";
    let met = value(&parked, waited)? >= value(&running, waited)? + WAITED_US;
    Ok(ObservedPause {
        in_flight,
        met,
        parked,
        took,
    })
}

/// A pause that fails because the disk hangs; the disk is well again after it.
pub fn pause_times_out(guest: &mut Guest, id: &str, backing: &Backing) -> Result<()> {
    // Nothing is in flight when the disk hangs: the next sync is one that can't end. One that ran
    // just then might.
    guest.pause()?;
    backing.mapping().hold()?;
    guest.resume()?;
    wait::until("a flush that hangs", SHORT, || {
        let in_flight = value(&guest.counters(id)?, "in_flight")?;
        Ok((in_flight > 0).then_some(()))
    })?;
    let refused = refusal(guest.pause(), "a pause on a hung disk", "drain timed out");
    backing.mapping().let_go()?;
    refused.map(drop)
}

/// Milliseconds, for a measurement.
pub fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
