// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What users run: files on ext4 and XFS, and SQLite's transactions.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use guest_agent::wire::{Filesystem, LoadKind, LoadSpec, Outcome, Step};
use serde::Serialize;

use crate::inside::context::Context;
use crate::inside::disk::{HostFs, Table};
use crate::inside::guest::code;
use crate::scenarios::bench::Rows;
use crate::scenarios::bench::pair::{Pair, Side, pairs};
use crate::scenarios::support::{BLOCKS, no_errors};

/// XFS is not made on less than 300 MiB.
const BYTES: u64 = 320 << 20;
const COST_MS: u32 = 20;
const MOUNT: &str = "/mnt/data";
const THREADS: u32 = 16;
/// Each an INSERT with a commit of its own.
const TRANSACTIONS: u32 = 50;

/// One run of one side.
#[derive(Serialize)]
struct Row {
    device: &'static str,
    driver: &'static str,
    workload: String,
    threads: u32,
    cost_ms: u32,
    round: u64,
    step: String,
    elapsed_ms: u64,
    /// fsyncs or transactions.
    operations: u64,
    p99_us: Option<u64>,
}

/// `bench-filesystems`: the stock-like pair and the best one.
pub fn run(context: &mut Context) -> Result<()> {
    let rounds = context.number("rounds", 5)?;
    let seconds = context.number("seconds", 5)?;
    let backing = context.backing("data", HostFs::Ext4, 2 * BYTES)?;
    let mut sides = Vec::new();
    for pair in pairs(context)?.into_iter().take(2) {
        sides.push(Side::boot(context, pair, &backing, BYTES)?);
    }
    let mut rows = Rows::default();
    for fs in [Filesystem::Ext4, Filesystem::Xfs] {
        backing.disk(Table::Plain)?;
        for side in &mut sides {
            let rc = side.guest.mkfs(fs, "#0")?;
            ensure!(rc == 0, "mkfs ended with {rc}");
            side.guest.mount(fs, "#0", MOUNT, false)?;
        }
        backing.disk(Table::FlushCost(COST_MS))?;
        for round in 0..rounds {
            for side in &mut sides {
                let row = files(context, side, fs, round, seconds)?;
                rows.add(context, &row);
            }
            for side in &mut sides {
                let row = sqlite(context, side, fs, round)?;
                rows.add(context, &row);
            }
        }
        backing.disk(Table::Plain)?;
        for side in &mut sides {
            side.guest.umount(MOUNT)?;
        }
    }
    for side in &mut sides {
        side.guest.is_well()?;
    }
    Ok(())
}

fn row(side: &Side, workload: String, threads: u32, round: u64) -> Row {
    let Pair { device, driver, .. } = side.pair;
    let step = format!("{device} with {}: {workload}, round {round}", driver.name());
    Row {
        device,
        driver: driver.name(),
        workload,
        threads,
        cost_ms: COST_MS,
        round,
        step,
        elapsed_ms: 0,
        operations: 0,
        p99_us: None,
    }
}

/// A file per thread, overwrites of 4 KiB, an fsync for each.
fn files(
    context: &Context,
    side: &mut Side,
    fs: Filesystem,
    round: u64,
    seconds: u64,
) -> Result<Row> {
    let mut row = row(side, format!("files on {}", fs.name()), THREADS, round);
    let kind = LoadKind::File {
        dir: format!("{MOUNT}/files"),
        append: false,
    };
    let mut spec = LoadSpec::new(kind, THREADS, BLOCKS, context.trial.seed);
    spec.distribution = true;
    spec.duration_ms = seconds * 1000;
    context.step(&row.step);
    side.guest.load_start("bench", spec)?;
    let within = Duration::from_secs(seconds + 60);
    let report = side.guest.load_wait("bench", within)?;
    context.step("between two loads");
    no_errors(&report)?;
    row.elapsed_ms = report.elapsed_ms;
    row.operations = report.fsyncs;
    row.p99_us = Some(report.latency.p99_us);
    Ok(row)
}

/// One connection, a transaction after the other.
fn sqlite(context: &Context, side: &mut Side, fs: Filesystem, round: u64) -> Result<Row> {
    let mut row = row(side, format!("SQLite on {}", fs.name()), 1, round);
    let mut script = "PRAGMA synchronous=FULL; CREATE TABLE IF NOT EXISTS t(x);\n".to_owned();
    for number in 0..TRANSACTIONS {
        script.push_str(&format!("INSERT INTO t VALUES({number});\n"));
    }
    let step = Step::Tool {
        argv: vec!["sqlite3".to_owned(), format!("{MOUNT}/bench.db")],
        timeout_ms: 120_000,
        stdin: script,
    };
    context.step(&row.step);
    let begun = Instant::now();
    let outcome = side.guest.order(step, Duration::from_secs(180))?;
    row.elapsed_ms = u64::try_from(begun.elapsed().as_millis())?;
    context.step("between two loads");
    match outcome {
        Outcome::Tool(result) if code(&result) == 0 => {}
        other => anyhow::bail!("sqlite3 answered {other:?}"),
    }
    row.operations = TRANSACTIONS.into();
    Ok(row)
}
