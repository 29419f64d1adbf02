// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One device's disk is no other device's business.

use std::time::Duration;

use anyhow::{Result, ensure};
use guest_agent::wire::LoadReport;

use crate::inside::acks::Acks;
use crate::inside::context::Context;
use crate::inside::disk::{HostFs, Table};
use crate::inside::guest::{Guest, SHORT};
use crate::inside::machine::Pmem;
use crate::scenarios::support::{DATA_BYTES, SECOND_ACK, STOP, no_errors, raw_load, verified};

/// What a flush of the slow disk takes.
const COST_MS: u32 = 2_000;
/// Syncs of the slow device that the fast one is watched for.
const SLOW_SYNCS: u64 = 3;
/// Syncs of the fast device alone, to compare with.
const ALONE: u64 = 100;

/// `two-devices`.
pub fn run(context: &mut Context) -> Result<()> {
    let slow_disk = context.backing("slow", HostFs::Ext4, 2 * DATA_BYTES)?;
    let fast_disk = context.backing("fast", HostFs::Ext4, DATA_BYTES)?;
    let slow = slow_disk.written_file("pmem.img", DATA_BYTES)?;
    // The control: both files on the slow disk.
    let below = if context.is_control() {
        &slow_disk
    } else {
        &fast_disk
    };
    let fast = below.written_file("fast.img", DATA_BYTES)?;
    let ack = context.ack()?;
    let slow_acks = Acks::new(&ack.file, 0);
    let fast_acks = Acks::new(&ack.file, SECOND_ACK);
    let mut guest = context.boot(vec![
        Pmem::new("slow", &slow),
        Pmem::new("fast", &fast),
        ack,
    ])?;
    guest.devices(3)?;

    context.step("the fast device alone");
    let alone = fast_load(context, &mut guest, "alone", || {
        fast_acks.go_on(ALONE, SHORT)
    })?;

    context.step("the fast device beside a slow one");
    slow_disk.disk(Table::FlushCost(COST_MS))?;
    guest.load_start("slow", raw_load(context, "#0", 2, "#2", 0))?;
    let beside = fast_load(context, &mut guest, "beside", || {
        slow_acks.go_on(SLOW_SYNCS, SHORT)
    })?;
    slow_disk.disk(Table::Plain)?;
    let slow_report = guest.load_stop("slow", STOP)?;
    no_errors(&slow_report)?;
    guest.is_well()?;

    let slowest = Duration::from_micros(slow_report.latency.max_us);
    let cost = Duration::from_millis(u64::from(COST_MS));
    ensure!(
        slowest >= cost,
        "the run does not count: the slow disk's fsync took {slowest:?}"
    );
    let rates = [&alone, &beside].map(|report| report.fsyncs * 1000 / report.elapsed_ms.max(1));
    context.measure("fast_alone_fsyncs_per_s", rates[0]);
    context.measure("fast_beside_fsyncs_per_s", rates[1]);
    context.measure("fast_beside_longest_ms", beside.latency.max_us / 1000);
    context.measure("slow_longest_ms", slow_report.latency.max_us / 1000);
    ensure!(
        Duration::from_micros(beside.latency.max_us) < cost / 2,
        "an fsync of the fast device took {} ms beside the slow one",
        beside.latency.max_us / 1000
    );
    ensure!(
        rates[1] * 2 >= rates[0],
        "the fast device does {} fsyncs/s alone and {} beside a slow one",
        rates[0],
        rates[1]
    );
    guest.machine().shutdown(SHORT)?;
    verified(&slow, &slow_acks.file, slow_acks.offset)?;
    verified(&fast, &fast_acks.file, fast_acks.offset)?;
    Ok(())
}

/// A load on the fast device for as long as `meanwhile` takes.
fn fast_load(
    context: &Context,
    guest: &mut Guest,
    name: &str,
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<LoadReport> {
    guest.load_start(name, raw_load(context, "#1", 1, "#2", SECOND_ACK))?;
    meanwhile()?;
    let report = guest.load_stop(name, STOP)?;
    no_errors(&report)?;
    Ok(report)
}
