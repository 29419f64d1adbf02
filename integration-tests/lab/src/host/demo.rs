// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `lab demo`: the whole way once, from an empty machine to a restored snapshot, and what it showed.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::host::lab;
use crate::host::progress::Progress;
use crate::host::setup::{self, Assets, Build};
use crate::host::trials::{Pool, Request, Target, Verdict};
use crate::scenarios;

/// The scenario that does the work.
const SCENARIO: &str = "demo";

/// Its figures in the order a reader wants them, and what they are called on paper.
const FIGURES: &[(&str, &str)] = &[
    ("mkfs_rc", "mkfs.ext4 exit code"),
    ("mount_rc", "mount exit code"),
    (
        "flushes_in_flight_at_snapshot",
        "flushes in flight when paused",
    ),
    ("pause_ms", "pause took, ms"),
    ("snapshot_ms", "snapshot took, ms"),
    ("restore_ms", "restore in a new process took, ms"),
    ("guest_fsyncs", "fsyncs the guest counted"),
    ("guest_flushes", "flushes the device answered"),
    ("host_syncs", "syncs of the host's file"),
    ("umount_rc", "umount exit code"),
    ("fsck_rc", "fsck exit code"),
    (
        "acked_writes_verified",
        "acknowledged writes found in the file",
    ),
    ("acked_blocks_bad", "acknowledged blocks lost"),
];

/// What `lab demo` is told.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    /// One JSON object as the last line instead of the table
    #[arg(long)]
    json: bool,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Runs it and prints the summary.
pub fn main(options: &Options) -> Result<ExitCode> {
    let begun = Instant::now();
    let extras = options.target.extras()?;
    let scenario = scenarios::find(SCENARIO).context("there is no scenario for the demo")?;
    let progress = Progress::new();
    let trial = options.target.trial(scenario, options.seed);
    let assets = setup::run(&progress, false, Build::of([trial.driver]))?;
    let (verdict, answer) = mpsc::channel();
    let request = Request {
        trial,
        limit: scenario.limit,
        cost: scenario.limit,
        verdict,
        failed_boots: 0,
        lost_labs: 0,
        emulator_faults: Vec::new(),
    };
    Pool::new(&assets, &extras, &progress, 1, vec![request]).run();
    progress.finish();
    let verdict = answer.recv().context("the demo's lab gave no answer")?;
    let summary = summary(&assets, &verdict, begun.elapsed())?;
    if options.json {
        println!("{}", Value::Object(summary));
    } else {
        print!("{}", table(&summary));
    }
    match verdict.reason() {
        None => Ok(ExitCode::SUCCESS),
        Some(reason) => bail!("the demo did not pass: {reason}"),
    }
}

fn summary(assets: &Assets, verdict: &Verdict, took: Duration) -> Result<Map<String, Value>> {
    let none = BTreeMap::new();
    let figures = verdict
        .result()
        .map_or(&none, |result| &result.measurements);
    let mut summary = Map::new();
    summary.insert("passed".to_owned(), json!(verdict.is_passed()));
    for (name, _) in FIGURES {
        if let Some(value) = figures.get(*name) {
            summary.insert((*name).to_owned(), value.clone());
        }
    }
    let guest = verdict.result().and_then(|result| {
        assets
            .guests
            .iter()
            .find(|guest| guest.series == result.trial.kernel)
    });
    if let Some(guest) = guest {
        summary.insert("guest_kernel".to_owned(), json!(guest.release));
    }
    summary.insert("lab_kernel".to_owned(), json!(assets.lab_kernel.release));
    summary.insert("accel".to_owned(), json!(lab::accel(assets)?.name()));
    summary.insert("seconds".to_owned(), json!(took.as_secs()));
    Ok(summary)
}

fn table(summary: &Map<String, Value>) -> String {
    let rows = FIGURES.iter().copied().chain([
        ("guest_kernel", "guest kernel"),
        ("accel", "the lab ran under"),
        ("seconds", "all of it took, s"),
    ]);
    rows.map(|(name, words)| {
        let value = match summary.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            // A step that was not reached.
            None => "-".to_owned(),
        };
        format!("{words:38} {value:>10}\n")
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_figure_and_a_dash_for_a_step_not_reached() {
        let mut summary = Map::new();
        summary.insert("mkfs_rc".to_owned(), json!(0));
        summary.insert("accel".to_owned(), json!("tcg"));
        let text = table(&summary);
        assert_eq!(text.lines().count(), FIGURES.len() + 3);
        let row = |words: &str| {
            let line = text.lines().find(|line| line.starts_with(words)).unwrap();
            line.split_whitespace().last().unwrap().to_owned()
        };
        assert_eq!(row("mkfs.ext4"), "0");
        assert_eq!(row("the lab ran under"), "tcg");
        assert_eq!(row("fsck"), "-");
    }

    #[test]
    fn the_demo_is_a_scenario() {
        assert!(scenarios::find(SCENARIO).is_some());
    }
}
