// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A write with PREFLUSH, as a journal's commit is one: its data may not be in the memory before the flush of
//! what it commits has ended. Else a power cut keeps the commit and loses what it commits.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::inside::context::Context;
use crate::inside::disk::Table;
use crate::inside::driver::{Bound, Flusher};
use crate::inside::guest::SHORT;
use crate::inside::machine::Pmem;
use crate::inside::wait;
use crate::scenarios::driver::faults::room;
use crate::scenarios::support::value;

/// What a flush of the disk takes: the time in which the data must not appear.
const COST_MS: u32 = 100;
/// Writes to watch; each has a flush before it and one after it.
const WRITES: u64 = 20;
/// How long they may take.
const WITHIN: Duration = Duration::from_secs(60);
const BYTES: u64 = 16 << 20;
const PAGE: u64 = 1024;

/// `driver-preflush-order`.
pub fn run(context: &mut Context) -> Result<()> {
    let backing = room(context, 1)?;
    let path = backing.written_file("data.img", BYTES)?;
    let memory = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    // A store of the guest is in the host's page cache at once, and this reads it from there.
    let stored = || -> Result<u64> {
        let mut number = [0; 8];
        memory.read_exact_at(&mut number, PAGE * 4096)?;
        Ok(u64::from_le_bytes(number))
    };
    let mut guest = context.boot(vec![Pmem::new("data", &path)])?;
    guest.devices(1)?;
    let bound = Bound::find(&mut guest, 0)?;
    backing.disk(Table::FlushCost(COST_MS))?;

    context.step("write with PREFLUSH and FUA");
    let flusher = Flusher {
        fua_threads: 1,
        fua_page: PAGE,
        preflush: true,
        ..Flusher::default()
    };
    let before = value(&guest.counters("data")?, "host_syncs")?;
    flusher.start(&mut guest, &bound.path)?;
    // Writes whose flush was met while it ran, with their data not there yet.
    let (mut met, mut last) = (0, 0);
    wait::until_just_now("writes with PREFLUSH", WITHIN, || {
        // The data first: a flush that ends meanwhile counts in the driver's favour.
        let number = stored()?;
        let counters = guest.counters("data")?;
        let flushes = value(&counters, "host_syncs")? - before;
        // Two for each write before it, and the one that must precede it.
        let due = (2 * number).saturating_sub(1);
        ensure!(
            flushes >= due,
            "write {number} is in the memory before its PREFLUSH has ended: {flushes} flushes, not {due}"
        );
        if flushes == 2 * number && value(&counters, "in_flight")? == 1 && number + 1 != last {
            met += 1;
            last = number + 1;
        }
        Ok((number >= WRITES).then_some(()))
    })?;
    Flusher::stop(&mut guest, SHORT)?;
    let writes = stored()?;
    let flushes = value(&guest.counters("data")?, "host_syncs")? - before;
    context.measure("writes", writes);
    context.measure("host_flushes", flushes);
    context.measure("met_before_their_data", met);
    ensure!(
        flushes == 2 * writes,
        "{writes} writes with PREFLUSH and FUA have flushed the host {flushes} times, not twice each"
    );
    ensure!(
        met * 2 >= WRITES,
        "the run does not count: of {writes} writes only {met} were met during the flush before them"
    );
    guest.is_well()?;
    guest.machine().alive()
}
