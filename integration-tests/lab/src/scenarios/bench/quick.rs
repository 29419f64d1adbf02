// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The short form: whether the ratios hold, with margin. Neighbours of one minute are compared, never an
//! absolute time, so that it can run beside other work.

use anyhow::{Result, ensure};

use crate::inside::context::{Context, Missing};
use crate::inside::disk::HostFs;
use crate::job::Driver;
use crate::scenarios::bench::Rows;
use crate::scenarios::bench::flush::{BYTES, Cell, Row, boot_pairs, set_cost};
use crate::scenarios::bench::pair::{Pair, pairs};

/// Throughput at 16 threads against the stock-like pair; the full run wants 7, and sees 8.
const SPEED_UP: f64 = 4.0;
/// Host syncs for each fsync at 16 threads; the full run wants 0.15, and sees 0.125.
const SYNCS_PER_FSYNC: f64 = 0.2;
/// A single thread's latency against the stock-like pair; the full run wants 1.05.
const ALONE: f64 = 1.25;
const COST_MS: u64 = 20;
/// Rounds before the first look.
const ROUNDS: u64 = 3;
/// Rounds at most: a machine that was disturbed in the first ones gets more.
const MOST: u64 = 7;

/// The serial pair in our place, which must not pass.
const CONTROL: Pair = Pair {
    device: "serial",
    driver: Driver::C,
    name: "-serial-again",
};

/// `bench-quick`: 1 and 16 threads at 20 ms.
pub fn run(context: &mut Context) -> Result<()> {
    if context.trial.driver != Driver::Rust && !context.is_control() {
        return Err(Missing("it compares the Rust driver".to_owned()).into());
    }
    let seconds = context.number("seconds", 2)?;
    let backing = context.backing("data", HostFs::Ext4, 4 * BYTES)?;
    let mut both: Vec<Pair> = pairs(context)?.into_iter().take(2).collect();
    if context.is_control() {
        both.truncate(1);
        both.push(CONTROL);
    }
    let mut sides = boot_pairs(context, &backing, both)?;
    set_cost(&backing, COST_MS)?;
    let mut rows = Rows::default();
    let mut found = Found::default();
    for round in 0..MOST {
        for threads in [1, 16] {
            let cell = Cell {
                threads,
                cost: COST_MS,
                round,
                seconds,
            };
            let mut pair = cell.in_turn(context, &mut sides)?;
            for row in &pair {
                rows.add(context, row);
            }
            if !round.is_multiple_of(2) {
                pair.reverse();
            }
            found.add(&pair[0], &pair[1]);
        }
        if round + 1 >= ROUNDS && found.verdict().is_ok() {
            break;
        }
    }
    for side in &mut sides {
        side.guest.is_well()?;
    }
    found.verdict()
}

/// What the rounds say so far: ours against the stock-like pair.
#[derive(Default)]
struct Found {
    speed_ups: Vec<f64>,
    alone: Vec<f64>,
    syncs: Vec<f64>,
}

impl Found {
    fn add(&mut self, base: &Row, ours: &Row) {
        if ours.threads == 1 {
            self.alone.push(ratio(ours.median_us, base.median_us));
            return;
        }
        let per_second = |row: &Row| ratio(row.fsyncs * 1000, row.elapsed_ms);
        self.speed_ups.push(per_second(ours) / per_second(base));
        // Stock cloud-hypervisor does not count, ours and patched ones do.
        let syncs = ours.host_syncs.unwrap_or(ours.fsyncs);
        self.syncs.push(ratio(syncs, ours.fsyncs));
    }

    /// The medians against the margins.
    fn verdict(&self) -> Result<()> {
        let speed_up = middle(&self.speed_ups);
        ensure!(
            speed_up >= SPEED_UP,
            "16 threads at {COST_MS} ms: {speed_up:.1} times the stock-like pair, wanted at least {SPEED_UP} (rounds: {:.1?})",
            self.speed_ups
        );
        let syncs = middle(&self.syncs);
        ensure!(
            syncs <= SYNCS_PER_FSYNC,
            "16 threads at {COST_MS} ms: {syncs:.3} host syncs per fsync, wanted at most {SYNCS_PER_FSYNC} (rounds: {:.3?})",
            self.syncs
        );
        let alone = middle(&self.alone);
        ensure!(
            alone <= ALONE,
            "1 thread at {COST_MS} ms: {alone:.2} times the stock-like pair's latency, wanted at most {ALONE} (rounds: {:.2?})",
            self.alone
        );
        Ok(())
    }
}

/// The middle value, the lower one of two; nothing is not a number, which no margin lets pass.
fn middle(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len().saturating_sub(1) / 2;
    values.get(middle).copied().unwrap_or(f64::NAN)
}

fn ratio(a: u64, b: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let ratio = a as f64 / b as f64;
    ratio
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(speed_up: f64, syncs: f64, alone: f64) -> Result<()> {
        let found = Found {
            speed_ups: vec![0.1, speed_up, 100.0],
            syncs: vec![0.0, syncs, 1.0],
            alone: vec![0.1, alone, 9.0],
        };
        found.verdict()
    }

    #[test]
    fn each_ratio_can_fail_by_its_name() {
        verdict(8.0, 0.125, 1.0).unwrap();
        for (figures, said) in [
            ((3.9, 0.125, 1.0), "times the stock-like pair, wanted"),
            ((8.0, 0.3, 1.0), "host syncs per fsync"),
            ((8.0, 0.125, 1.3), "latency"),
        ] {
            let error = verdict(figures.0, figures.1, figures.2)
                .unwrap_err()
                .to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn nothing_measured_is_not_passed() {
        assert!(Found::default().verdict().is_err());
    }
}
