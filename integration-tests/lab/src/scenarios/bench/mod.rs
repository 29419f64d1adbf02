// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The benchmarks that need a lab. Each writes its rows as measurements `row-0001`, …, so that
//! those of a run that ends early are not lost.

use anyhow::{Result, anyhow};
use guest_agent::wire::{LoadKind, LoadSpec};
use serde::Serialize;

use crate::inside::context::Context;
use crate::scenarios::support::BLOCKS;
use crate::scenarios::{BENCH, Expect, LAB, RUST, Scenario, USUAL, minutes};

pub mod filesystems;
pub mod flush;
pub mod pair;
pub mod pause;
pub mod quick;
pub mod snapshot;
mod stats;
pub mod sync_calls;

/// What they have in common.
const MEASURES: Scenario = Scenario {
    control: "none: it measures",
    expect: Expect::Pass,
    groups: BENCH,
    limit: minutes(30),
    name: "",
    run: flush::run,
    settings: &[],
    summary: "",
    usual: USUAL,
};

/// In the order a reader meets them.
pub const ALL: &[Scenario] = &[
    Scenario {
        control: "bench-quick-control: the stock-like pair in our place",
        groups: LAB,
        limit: minutes(10),
        name: "bench-quick",
        run: quick::run,
        summary: "16 threads are at least 4 times as fast as on the stock-like pair, with at most 0.2 host syncs per fsync",
        // It boots both drivers.
        usual: RUST,
        ..MEASURES
    },
    Scenario {
        expect: Expect::Failure(&["times the stock-like pair, wanted at least"]),
        limit: minutes(10),
        name: "bench-quick-control",
        run: quick::run,
        settings: &[("control", "on")],
        summary: "the stock-like pair is not faster than itself",
        ..MEASURES
    },
    Scenario {
        limit: minutes(120),
        name: "bench-flush",
        run: flush::run,
        summary: "fsync/s and latency over threads and flush cost",
        ..MEASURES
    },
    Scenario {
        name: "bench-filesystems",
        run: filesystems::run,
        summary: "files on ext4 and XFS, and SQLite's transactions",
        ..MEASURES
    },
    Scenario {
        limit: minutes(20),
        name: "bench-pause",
        run: pause::run,
        summary: "from the request to pause until the guest is paused",
        ..MEASURES
    },
    Scenario {
        limit: minutes(60),
        name: "bench-snapshot",
        run: snapshot::run,
        summary: "snapshot, restore and boot times",
        ..MEASURES
    },
    Scenario {
        name: "bench-sync-calls",
        run: sync_calls::run,
        summary: "what each sync call costs on ext4, XFS and btrfs",
        ..MEASURES
    },
];

/// The load that is measured: one region per thread, O_DIRECT overwrites of 4 KiB, an fsync for each.
fn raw(context: &Context, threads: u64) -> Result<LoadSpec> {
    let kind = LoadKind::Raw {
        device: "#0".to_owned(),
    };
    let mut spec = LoadSpec::new(kind, u32::try_from(threads)?, BLOCKS, context.trial.seed);
    spec.distribution = true;
    Ok(spec)
}

/// Numbers the rows.
#[derive(Default)]
struct Rows(u32);

impl Rows {
    fn add(&mut self, context: &Context, row: &impl Serialize) {
        self.0 += 1;
        context.measure(&format!("row-{:04}", self.0), row);
    }
}

/// A list of numbers the user may set with `--set NAME=1,2,3`.
fn numbers(context: &Context, name: &str, default: &[u64]) -> Result<Vec<u64>> {
    let Some(text) = context.trial.options.get(name) else {
        return Ok(default.to_vec());
    };
    text.split(',')
        .map(|number| {
            number
                .trim()
                .parse()
                .map_err(|_| anyhow!("--set {name}={text}: `{number}` is no whole number"))
        })
        .collect()
}
