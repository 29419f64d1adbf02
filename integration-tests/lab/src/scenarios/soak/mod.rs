// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One thing after the other at random, for as long as one likes: loads, slow, hung and failing
//! disks, a read-only filesystem, pauses, snapshots, restores, suspends, resets, bad rings.
//!
//! The seed decides what is done in which order, and nothing else does: the same seed gives
//! the same schedule. What it meets on its way is up to the machine.

mod life;
mod schedule;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use self::life::live;
use self::schedule::Life;
use crate::inside::context::Context;
use crate::inside::machine::Capability;
use crate::scenarios::{Expect, RUST, Scenario, minutes};

/// In the order a reader meets them.
pub const ALL: &[Scenario] = &[Scenario {
    control: "the defects that pause-slow-disk, snapshot-under-load, hostile-guest, suspend-idle, \
              fault-eio-once and fault-read-only name, if their moment comes",
    expect: Expect::Pass,
    groups: &["soak"],
    limit: minutes(30),
    name: "soak-all",
    run,
    settings: &[],
    summary: "slow, hung and failing disks, pauses, snapshots, restores, suspends, rebinds and bad rings at \
              random for --hours H; the seed gives the schedule again",
    usual: RUST,
}];

/// How long it goes on without `--hours`.
const MINUTES: u64 = 10;

/// `soak`.
pub fn run(context: &mut Context) -> Result<()> {
    context.needs(&[
        Capability::Snapshot,
        Capability::DrainTimeout,
        Capability::SyncError,
    ])?;
    let end = Instant::now() + Duration::from_secs(60 * context.number("minutes", MINUTES)?);
    let seed = context.trial.seed;
    context.measure("schedule_seed", seed);
    let mut tally = Tally::default();
    for number in 0.. {
        let life = Life::drawn(seed, number);
        let lived = live(context, &life, number, &mut tally);
        tally.say(context);
        lived.with_context(|| format!("life {number} of seed {seed}: {life}"))?;
        if Instant::now() >= end {
            break;
        }
    }
    Ok(())
}

/// What was done, and what came of it.
#[derive(Debug, Default)]
pub struct Tally {
    pub acked_blocks_verified: u64,
    pub acts: u64,
    pub failing_disk_ends: u64,
    pub fsyncs: u64,
    pub lives: u64,
    pub pauses: u64,
    pub read_only_ends: u64,
    pub restores: u64,
    pub snapshots: u64,
    pub suspends: u64,
    pub timed_out_pauses: u64,
}

impl Tally {
    fn say(&self, context: &Context) {
        for (name, value) in [
            ("acked_blocks_verified", self.acked_blocks_verified),
            ("acts", self.acts),
            ("failing_disk_ends", self.failing_disk_ends),
            ("fsyncs", self.fsyncs),
            ("lives", self.lives),
            ("pauses", self.pauses),
            ("read_only_ends", self.read_only_ends),
            ("restores", self.restores),
            ("snapshots", self.snapshots),
            ("suspends", self.suspends),
            ("timed_out_pauses", self.timed_out_pauses),
        ] {
            context.measure(name, value);
        }
    }
}
