// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Storage that takes its time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::subject::Subject;
use crate::inside::context::Context;
use crate::inside::disk::{HostFs, Table};
use crate::inside::events;
use crate::inside::guest::SHORT;
use crate::inside::machine::refusal;
use crate::inside::wait;
use crate::scenarios::support::{DATA_BYTES, STOP, answered_once, ms, no_errors, raw_load, value};

const THREADS: u32 = 8;
/// The longest that a flush hangs, in seconds; `--set hold=60` for longer.
const HOLD: u64 = 3;
/// When a pause that fails must have come back; the deadline is 2 s.
const FAILED_BY: Duration = Duration::from_secs(4);
/// What a flush of the slow disk takes.
const COST_MS: u32 = 1_500;
/// Syncs of each thread on it, `--set syncs=N`.
const SLOW_SYNCS: u64 = 3;

fn subject(context: &mut Context) -> Result<Subject> {
    let backing = context.backing("data", HostFs::Ext4, DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    Subject::boot(context, backing, data)
}

/// `fault-hung`: the disk answers nothing for a while.
pub fn hung(context: &mut Context) -> Result<()> {
    let hold = Duration::from_secs(context.number("hold", HOLD)?);
    let mut subject = subject(context)?;
    let before = subject.guest.counters("data")?;
    subject.load(context, |spec| spec.threads = THREADS)?;

    context.step("the disk hangs, requests pile up");
    subject.backing.mapping().hold()?;
    let hangs = wait::until("all threads in a flush", hold + SHORT, || {
        let report = subject.guest.load_status("load")?;
        let waiting = report.threads.iter().filter_map(|one| one.in_sync_us);
        let all = waiting.clone().count() == report.threads.len();
        let longest = Duration::from_micros(waiting.max().unwrap_or_default());
        Ok((all && longest >= hold).then_some(longest))
    })?;
    context.measure("hung_ms", ms(hangs));
    let acked = subject.acks.fsyncs()?;

    context.step("pause while it hangs");
    // The control: the disk is let go, and the pause succeeds.
    if context.is_control() {
        subject.backing.mapping().let_go()?;
    }
    let begun = Instant::now();
    let refused = refusal(
        subject.guest.pause(),
        "a pause on a hung disk",
        "drain timed out",
    )?;
    let took = begun.elapsed();
    context.measure("failed_pause_ms", ms(took));
    context.measure("pause_refusal", refused);
    ensure!(took <= FAILED_BY, "the failed pause took {} ms", ms(took));
    let state = subject.guest.machine().state()?;
    ensure!(state == "Running", "after the failed pause it is {state}");
    events::wait_for(&subject.log()?, "data", "drain-timed-out", SHORT)?;
    let stuck = subject.guest.counters("data")?;
    context.measure("in_flight_while_hung", value(&stuck, "in_flight")?);
    ensure!(
        value(&stuck, "in_flight")? > 0 && subject.acks.fsyncs()? == acked,
        "the run does not count: the disk answered meanwhile"
    );
    ensure!(value(&stuck, "errors")? == 0, "a slow answer is no error");

    context.step("the disk answers again");
    subject.backing.mapping().let_go()?;
    subject.acks.go_on(2 * u64::from(THREADS), SHORT)?;
    let took = subject.guest.pause().context("the disk answers again")?;
    context.measure("pause_ms", ms(took));
    subject.guest.resume()?;
    let report = subject.guest.load_stop("load", STOP)?;
    no_errors(&report)?;
    let after = subject.guest.counters("data")?;
    answered_once(context, report.fsyncs, &before, &after)?;
    subject.guest.is_well()?;
    subject.shut_down(context)?;
    let found = subject.on_disk(context, DATA_BYTES)?;
    ensure!(found.fsyncs == report.fsyncs, "an fsync was not acked");
    Ok(())
}

/// `fault-slow`: each flush of the disk takes long; flushes share it, and nothing but a flush
/// waits.
pub fn slow(context: &mut Context) -> Result<()> {
    let mut subject = subject(context)?;
    subject.backing.disk(Table::FlushCost(COST_MS))?;
    let before = subject.guest.counters("data")?;
    context.step("flush on a slow disk");
    let mut spec = raw_load(context, "#0", THREADS, "#1", 0);
    let syncs = context.number("syncs", SLOW_SYNCS)?;
    spec.syncs_per_thread = syncs;
    subject.guest.load_start("load", spec)?;
    let mut longest = Duration::ZERO;
    wait::until("the end of the load", SHORT, || {
        let begun = Instant::now();
        subject.guest.counters("data")?;
        longest = longest.max(begun.elapsed());
        Ok((subject.acks.fsyncs()? >= u64::from(THREADS) * syncs).then_some(()))
    })?;
    let report = subject.guest.load_wait("load", STOP)?;
    subject.backing.disk(Table::Plain)?;
    no_errors(&report)?;
    let after = subject.guest.counters("data")?;
    let counted = |name| Ok::<_, anyhow::Error>(value(&after, name)? - value(&before, name)?);
    let (flushes, host_syncs) = (counted("flushes")?, counted("host_syncs")?);
    context.measure("guest_fsyncs", report.fsyncs);
    context.measure("flushes", flushes);
    context.measure("host_syncs", host_syncs);
    context.measure("longest_fsync_ms", report.latency.max_us / 1000);
    context.measure("longest_counters_call_ms", ms(longest));
    let cost = u64::from(COST_MS) * 1000;
    ensure!(
        report.latency.max_us >= cost,
        "the run does not count: the disk was not slow"
    );
    ensure!(
        host_syncs * 2 <= report.fsyncs,
        "{} fsyncs took {host_syncs} syncs of the slow disk: they did not share",
        report.fsyncs
    );
    ensure!(
        longest <= context.slack(),
        "vm.counters took {} ms while the disk was slow",
        ms(longest)
    );
    subject.guest.is_well()?;
    subject.shut_down(context)?;
    subject.on_disk(context, DATA_BYTES).map(drop)
}
