// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Group commit: many threads in fsync share few host flushes.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::inside::context::Context;
use crate::inside::disk::{HostFs, Table};
use crate::inside::guest::Guest;
use crate::inside::machine::{Counters, Pmem};
use crate::scenarios::support::{DATA_BYTES, no_errors, raw_load, value};

/// What a flush of the disk takes.
const COST_MS: u32 = 20;
const THREADS: u32 = 16;
/// The fsyncs of each of them: 2,080 in all.
const EACH: u64 = 130;
/// The fsyncs of a thread that is alone.
const ALONE: u64 = 60;
/// How long a load may take; one by one it would be two minutes.
const WITHIN: Duration = Duration::from_secs(240);

/// `driver-coalesces`.
pub fn run(context: &mut Context) -> Result<()> {
    let backing = context.backing("data", HostFs::Ext4, DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    let mut guest = context.boot(vec![Pmem::new("data", &data)])?;
    guest.devices(1)?;
    guest.counters("data")?;
    backing.disk(Table::FlushCost(COST_MS))?;

    context.step("one thread");
    let (fsyncs, host) = load(context, &mut guest, 1, ALONE)?;
    context.measure("alone_fsyncs", fsyncs);
    context.measure("alone_host_flushes", host);
    ensure!(
        host == fsyncs,
        "one thread: {host} host flushes for {fsyncs} fsyncs; each must have its own"
    );

    context.step("sixteen threads");
    let each = context.number("each", EACH)?;
    let (fsyncs, host) = load(context, &mut guest, THREADS, each)?;
    context.measure("fsyncs", fsyncs);
    context.measure("host_flushes", host);
    ensure!(
        fsyncs >= u64::from(THREADS) * each,
        "only {fsyncs} fsyncs were made"
    );
    ensure!(
        host * 5 <= fsyncs,
        "{THREADS} threads: {host} host flushes for {fsyncs} fsyncs, more than 0.2 for each"
    );
    guest.is_well()?;
    guest.machine().alive()
}

/// Runs a load to its end; returns its fsyncs and the flushes that the host counted.
fn load(context: &Context, guest: &mut Guest, threads: u32, each: u64) -> Result<(u64, u64)> {
    let name = format!("{threads}-threads");
    let mut spec = raw_load(context, "#0", threads, "#0", 0);
    spec.ack = None;
    spec.syncs_per_thread = each;
    let flushes = |counters: &Counters| value(counters, "flushes");
    let before = flushes(&guest.counters("data")?)?;
    guest.load_start(&name, spec)?;
    let report = guest.load_wait(&name, WITHIN)?;
    no_errors(&report)?;
    let rate = report.fsyncs * 1000 / report.elapsed_ms.max(1);
    context.measure(&format!("fsyncs_per_second_{threads}"), rate);
    Ok((report.fsyncs, flushes(&guest.counters("data")?)? - before))
}
