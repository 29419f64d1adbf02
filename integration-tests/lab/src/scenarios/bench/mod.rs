// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The benchmarks that need a lab. Each writes its rows as measurements `row-0001`, …, so that
//! those of a run that ends early are not lost.

use anyhow::Result;
use serde::Serialize;

use crate::inside::context::Context;
use crate::scenarios::{BENCH, Expect, Scenario, USUAL, minutes};

pub mod filesystems;
pub mod flush;
pub mod pair;
pub mod pause;
pub mod snapshot;
mod stats;
pub mod sync_calls;

/// In the order a reader meets them.
pub const ALL: &[Scenario] = &[
    Scenario {
        control: "none: it measures",
        expect: Expect::Pass,
        groups: BENCH,
        limit: minutes(120),
        name: "bench-flush",
        run: flush::run,
        settings: &[],
        summary: "fsync/s and latency over threads and flush cost",
        usual: USUAL,
    },
    Scenario {
        control: "none: it measures",
        expect: Expect::Pass,
        groups: BENCH,
        limit: minutes(30),
        name: "bench-filesystems",
        run: filesystems::run,
        settings: &[],
        summary: "files on ext4 and XFS, and SQLite's transactions",
        usual: USUAL,
    },
    Scenario {
        control: "none: it measures",
        expect: Expect::Pass,
        groups: BENCH,
        limit: minutes(20),
        name: "bench-pause",
        run: pause::run,
        settings: &[],
        summary: "from the request to pause until the guest is paused",
        usual: USUAL,
    },
    Scenario {
        control: "none: it measures",
        expect: Expect::Pass,
        groups: BENCH,
        limit: minutes(30),
        name: "bench-snapshot",
        run: snapshot::run,
        settings: &[],
        summary: "snapshot, restore and boot times",
        usual: USUAL,
    },
    Scenario {
        control: "none: it measures",
        expect: Expect::Pass,
        groups: BENCH,
        limit: minutes(30),
        name: "bench-sync-calls",
        run: sync_calls::run,
        settings: &[],
        summary: "what each sync call costs on ext4, XFS and btrfs",
        usual: USUAL,
    },
];

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
                .map_err(|_| anyhow::anyhow!("--set {name}={text}: `{number}` is no whole number"))
        })
        .collect()
}
