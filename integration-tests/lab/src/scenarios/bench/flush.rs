// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! fsync/s and latency over threads and flush cost, for each pair.

use std::time::Duration;

use anyhow::{Result, ensure};
use guest_agent::wire::{LoadReport, LoadSpec};
use serde::Serialize;

use crate::inside::context::Context;
use crate::inside::disk::{Backing, HostFs, Table};
use crate::inside::machine::Counters;
use crate::scenarios::bench::pair::{Pair, Side, pairs};
use crate::scenarios::bench::stats::Cost;
use crate::scenarios::bench::{Rows, numbers, raw};
use crate::scenarios::support::no_errors;

/// Size of each side's device.
pub(super) const BYTES: u64 = 64 << 20;

/// One load of one side.
#[derive(Serialize)]
pub struct Row {
    pub(super) device: &'static str,
    driver: &'static str,
    pub(super) threads: u64,
    cost_ms: u64,
    round: u64,
    /// The step it ran in: the host knows how disturbed the machine was then.
    step: String,
    pub(super) elapsed_ms: u64,
    pub(super) fsyncs: u64,
    pub(super) median_us: u64,
    p99_us: u64,
    max_us: u64,
    /// Answers of the device; only where the VMM counts them.
    host_flushes: Option<u64>,
    pub(super) host_syncs: Option<u64>,
    exits: u64,
    cpu_us: u64,
    distribution: Vec<(u64, u64)>,
}

/// Cells (threads, cost in ms) that have targets, and so more rounds: one that is dropped as
/// disturbed leaves enough.
const TARGETS: [(u64, u64); 5] = [(1, 0), (1, 20), (16, 20), (64, 100), (64, 200)];
const ROUNDS: u64 = 3;
const ROUNDS_OF_A_TARGET: u64 = 7;

/// Rounds of a cell unless `--set rounds=N` says so.
fn usual_rounds(threads: u64, cost: u64) -> u64 {
    if TARGETS.contains(&(threads, cost)) {
        ROUNDS_OF_A_TARGET
    } else {
        ROUNDS
    }
}

/// `bench-flush`: every cell of threads × cost, the sides in turn.
pub fn run(context: &mut Context) -> Result<()> {
    let threads = numbers(context, "threads", &[1, 2, 4, 8, 16, 32, 64])?;
    let costs = numbers(context, "costs", &[0, 2, 20, 100, 200])?;
    let seconds = context.number("seconds", 2)?;
    let long = context.number("long", 60)?;
    let backing = context.backing("data", HostFs::Ext4, 4 * BYTES)?;
    let mut sides = boot(context, &backing)?;
    let mut rows = Rows::default();
    for &cost in &costs {
        set_cost(&backing, cost)?;
        for &threads in &threads {
            let rounds = context.number("rounds", usual_rounds(threads, cost))?;
            for round in 0..rounds {
                let cell = Cell {
                    threads,
                    cost,
                    round,
                    seconds,
                };
                for row in cell.in_turn(context, &mut sides)? {
                    rows.add(context, &row);
                }
            }
        }
    }
    if long > 0 {
        set_cost(&backing, 20)?;
        let cell = Cell {
            threads: 16,
            cost: 20,
            round: 0,
            seconds: long,
        };
        for side in sides.iter_mut().filter(|side| is_best(side.pair)) {
            context.step("the long load");
            let row = cell.measure(context, side)?;
            context.measure("long", row);
        }
    }
    for side in &mut sides {
        side.guest.is_well()?;
    }
    Ok(())
}

fn is_best(pair: Pair) -> bool {
    ["-engine-rust", "-patched-rust"].contains(&pair.name)
}

/// A guest for each pair.
fn boot(context: &Context, backing: &Backing) -> Result<Vec<Side>> {
    boot_pairs(context, backing, pairs(context)?)
}

pub(super) fn boot_pairs(
    context: &Context,
    backing: &Backing,
    pairs: Vec<Pair>,
) -> Result<Vec<Side>> {
    pairs
        .into_iter()
        .map(|pair| Side::boot(context, pair, backing, BYTES))
        .collect()
}

pub(super) fn set_cost(backing: &Backing, ms: u64) -> Result<()> {
    backing.disk(match u32::try_from(ms)? {
        0 => Table::Plain,
        ms => Table::FlushCost(ms),
    })
}

/// What is measured in one round.
pub(super) struct Cell {
    pub(super) threads: u64,
    pub(super) cost: u64,
    pub(super) round: u64,
    pub(super) seconds: u64,
}

impl Cell {
    /// Every side once: A/B, then B/A, so that whatever drifts does not favour one.
    pub(super) fn in_turn(&self, context: &Context, sides: &mut [Side]) -> Result<Vec<Row>> {
        let count = sides.len();
        (0..count)
            .map(|turn| {
                let index = if self.round.is_multiple_of(2) {
                    turn
                } else {
                    count - 1 - turn
                };
                self.measure(context, &mut sides[index])
            })
            .collect()
    }

    fn measure(&self, context: &Context, side: &mut Side) -> Result<Row> {
        let Pair { device, driver, .. } = side.pair;
        let step = format!(
            "{device} with {}: {} threads, flush cost {} ms, round {}",
            driver.name(),
            self.threads,
            self.cost,
            self.round
        );
        let mut spec = raw(context, self.threads)?;
        spec.duration_ms = self.seconds * 1000;
        let before = cost_and_counters(side)?;
        context.step(&step);
        let report = load(side, spec, self.tail())?;
        context.step("between two loads");
        let after = cost_and_counters(side)?;
        let cost = after.0.since(before.0);
        let grown = |name: &str| -> Option<u64> {
            let [before, after] = [&before.1, &after.1].map(|counters| counters.as_ref());
            Some(after?.get(name)? - before?.get(name)?)
        };
        Ok(Row {
            device,
            driver: driver.name(),
            threads: self.threads,
            cost_ms: self.cost,
            round: self.round,
            step,
            elapsed_ms: report.elapsed_ms,
            fsyncs: report.fsyncs,
            median_us: report.latency.median_us,
            p99_us: report.latency.p99_us,
            max_us: report.latency.max_us,
            host_flushes: grown("flushes"),
            host_syncs: grown("host_syncs"),
            exits: cost.exits,
            cpu_us: cost.cpu_us,
            distribution: report.distribution,
        })
    }

    /// A serial device still has one sync for each thread to do when the time is over.
    fn tail(&self) -> Duration {
        Duration::from_millis(self.seconds * 1000 + 2 * self.threads * self.cost + 30_000)
    }
}

fn load(side: &mut Side, spec: LoadSpec, within: Duration) -> Result<LoadReport> {
    side.guest.load_start("bench", spec)?;
    let report = side.guest.load_wait("bench", within)?;
    no_errors(&report)?;
    ensure!(report.running == 0, "the load did not end: {report:?}");
    Ok(report)
}

fn cost_and_counters(side: &mut Side) -> Result<(Cost, Option<Counters>)> {
    let machine = side.guest.machine();
    Ok((Cost::of(machine.process())?, machine.counters("data")?))
}
