// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! From the request to pause until the guest is paused, over the number of flushing threads.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::inside::context::Context;
use crate::inside::disk::{HostFs, Table};
use crate::inside::guest::SHORT;
use crate::inside::wait;
use crate::scenarios::bench::pair::{Pair, Side, pairs};
use crate::scenarios::bench::{Rows, numbers, raw};
use crate::scenarios::support::{no_errors, value};

const BYTES: u64 = 64 << 20;

/// One pause.
#[derive(Serialize)]
struct Row {
    device: &'static str,
    driver: &'static str,
    threads: u64,
    cost_ms: u64,
    round: u64,
    step: String,
    pause_us: u64,
}

/// `bench-pause`.
pub fn run(context: &mut Context) -> Result<()> {
    let threads = numbers(context, "threads", &[0, 1, 16, 64])?;
    let rounds = context.number("rounds", 10)?;
    let cost = context.number("cost", 20)?;
    let backing = context.backing("data", HostFs::Ext4, 4 * BYTES)?;
    let mut rows = Rows::default();
    let mut sides = Vec::new();
    for pair in pairs(context)? {
        let mut side = Side::boot(context, pair, &backing, BYTES)?;
        // Without counters it cannot be seen from outside when a flush is on its way.
        if side.guest.machine().counters("data")?.is_some() {
            sides.push(side);
        }
    }
    backing.disk(Table::FlushCost(u32::try_from(cost)?))?;
    for &threads in &threads {
        for side in &mut sides {
            let Pair { device, driver, .. } = side.pair;
            if threads > 0 {
                side.guest.load_start("bench", raw(context, threads)?)?;
            }
            for round in 0..rounds {
                let step = format!(
                    "{device} with {}: pause {round} with {threads} threads",
                    driver.name()
                );
                context.step(&step);
                if threads > 0 {
                    settled(side, threads, cost)?;
                    under_way(side)?;
                }
                let took = side.guest.pause().context("the pause")?;
                side.guest.resume()?;
                rows.add(
                    context,
                    &Row {
                        device,
                        driver: driver.name(),
                        threads,
                        cost_ms: cost,
                        round,
                        step,
                        pause_us: u64::try_from(took.as_micros())?,
                    },
                );
            }
            if threads > 0 {
                let stop = Duration::from_millis(2 * threads * cost) + SHORT;
                no_errors(&side.guest.load_stop("bench", stop)?)?;
            }
        }
    }
    Ok(())
}

/// Waits until each thread has had its turn about twice: threads that are still starting queue nothing.
fn settled(side: &mut Side, threads: u64, cost: u64) -> Result<()> {
    let begun = value(&side.guest.counters("data")?, "flushes")?;
    let within = Duration::from_millis(4 * threads * cost) + SHORT;
    wait::until_just_now("a load that has settled", within, || {
        let now = value(&side.guest.counters("data")?, "flushes")?;
        Ok((now >= begun + 2 * threads).then_some(()))
    })
}

/// Waits until the device has begun a further sync.
fn under_way(side: &mut Side) -> Result<()> {
    let before = value(&side.guest.counters("data")?, "host_syncs")?;
    wait::until_just_now("a flush under way", SHORT, || {
        let now = value(&side.guest.counters("data")?, "host_syncs")?;
        Ok((now > before).then_some(()))
    })
}
