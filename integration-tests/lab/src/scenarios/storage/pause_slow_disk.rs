// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A pause has a deadline, and a pause that fails changes nothing.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::inside::acks::Acks;
use crate::inside::context::Context;
use crate::inside::disk::{HostFs, Table};
use crate::inside::events;
use crate::inside::guest::{Guest, SHORT};
use crate::inside::machine::{Capability, Pmem, refusal};
use crate::inside::wait;
use crate::scenarios::support::{
    DATA_BYTES, SECOND_ACK, STOP, answered_once, ms, no_errors, raw_load, value, verified,
};

/// What a flush of the slow disk takes.
const COST_MS: u32 = 30_000;
/// The same in the control, which waits for it.
const CONTROL_COST_MS: u32 = 5_000;
/// The drain's deadline, in seconds.
const DEADLINE: u64 = 2;
/// When a pause that fails must have come back.
const FAILED_BY: Duration = Duration::from_secs(4);
/// A flush that is in flight for so long waits for the slow disk.
const STUCK: Duration = Duration::from_millis(500);

/// `pause-slow-disk`.
pub fn run(context: &mut Context) -> Result<()> {
    context.needs(&[Capability::DrainTimeout])?;
    let slow_disk = context.backing("slow", HostFs::Ext4, DATA_BYTES)?;
    let fast_disk = context.backing("fast", HostFs::Ext4, DATA_BYTES)?;
    let slow = slow_disk.written_file("pmem.img", DATA_BYTES)?;
    let fast = fast_disk.written_file("pmem.img", DATA_BYTES)?;
    let ack = context.ack()?;
    let slow_acks = Acks::new(&ack.file, 0);
    let fast_acks = Acks::new(&ack.file, SECOND_ACK);
    // The control: a deadline that is longer than the disk's hang.
    let (deadline, cost_ms) = if context.is_control() {
        (60, CONTROL_COST_MS)
    } else {
        (DEADLINE, COST_MS)
    };
    let device = |id, file| Pmem {
        drain_timeout: Some(deadline),
        ..Pmem::new(id, file)
    };
    let mut guest = context.boot(vec![device("slow", &slow), device("fast", &fast), ack])?;
    guest.devices(3)?;
    let before = [guest.counters("slow")?, guest.counters("fast")?];
    guest.load_start("slow", raw_load(context, "#0", 2, "#2", 0))?;
    guest.load_start("fast", raw_load(context, "#1", 2, "#2", SECOND_ACK))?;
    slow_acks.go_on(2, SHORT)?;
    fast_acks.go_on(2, SHORT)?;

    context.step("a flush hangs");
    slow_disk.disk(Table::FlushCost(cost_ms))?;
    a_flush_hangs(&mut guest)?;

    context.step("pause while it hangs");
    let begun = Instant::now();
    let refused = refusal(guest.pause(), "a pause on a hung disk", "drain timed out");
    let took = begun.elapsed();
    context.measure("failed_pause_ms", ms(took));
    context.measure("pause_refusal", refused?);
    ensure!(took <= FAILED_BY, "the failed pause took {} ms", ms(took));
    let state = guest.machine().state()?;
    ensure!(
        state == "Running",
        "after the failed pause the VM is {state}"
    );
    let log = guest.machine().events().context("no event log")?.to_owned();
    events::wait_for(&log, "slow", "drain-timed-out", SHORT)?;

    context.step("the guest goes on");
    let stuck = guest.counters("slow")?;
    fast_acks.go_on(5, Duration::from_secs(20))?;
    let still = guest.counters("slow")?;
    // Else the fast device proves nothing.
    ensure!(
        value(&still, "in_flight")? > 0 && value(&still, "flushes")? == value(&stuck, "flushes")?,
        "the run does not count: the slow disk answered meanwhile"
    );

    context.step("the disk is fast again");
    slow_disk.disk(Table::Plain)?;
    slow_acks.go_on(5, SHORT)?;
    let took = guest.pause().context("the disk is fast again")?;
    context.measure("pause_ms", ms(took));
    for id in ["slow", "fast"] {
        let parked = guest.counters(id)?;
        ensure!(
            value(&parked, "in_flight")? == 0,
            "`{id}` is paused with a request popped"
        );
    }
    guest.resume()?;
    slow_acks.go_on(2, SHORT)?;
    fast_acks.go_on(2, SHORT)?;

    context.step("count");
    let mut fsyncs = Vec::new();
    for (index, id) in ["slow", "fast"].into_iter().enumerate() {
        let report = guest.load_stop(id, STOP)?;
        no_errors(&report)?;
        let after = guest.counters(id)?;
        answered_once(context, report.fsyncs, &before[index], &after)
            .with_context(|| format!("device `{id}`"))?;
        fsyncs.push(report.fsyncs);
    }
    guest.is_well()?;
    guest.machine().shutdown(SHORT)?;
    for (file, acks, fsyncs) in [(&slow, slow_acks, fsyncs[0]), (&fast, fast_acks, fsyncs[1])] {
        let found = verified(file, &acks.file, acks.offset)?;
        ensure!(
            found.fsyncs == fsyncs,
            "the acks count {} of {fsyncs} fsyncs",
            found.fsyncs
        );
    }
    Ok(())
}

/// Waits until the slow device has had the same flush in flight for a while.
fn a_flush_hangs(guest: &mut Guest) -> Result<()> {
    let mut since = Instant::now();
    let mut last = None;
    wait::until("a flush that hangs", SHORT, || {
        let counters = guest.counters("slow")?;
        let seen = (
            value(&counters, "flushes")?,
            value(&counters, "in_flight")? > 0,
        );
        if last != Some(seen) || !seen.1 {
            last = Some(seen);
            since = Instant::now();
        }
        Ok((since.elapsed() >= STUCK).then_some(()))
    })
}
