// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The engine alone, on this machine: criterion's medians, allocations and instructions.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::host::bench::file::{self, File};
use crate::host::packages;
use crate::host::programs::{cargo, workspace};
use crate::host::progress::Progress;
use crate::host::tool;
use crate::host::trials::commit;

/// Flushes in the two runs whose difference counts: the start and the end are in both.
const FEW: u64 = 200;
/// See [`FEW`].
const MANY: u64 = 2200;

#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
}

/// Runs both.
pub fn run(progress: &Progress) -> Result<File> {
    let root = workspace()?;
    progress.step("the engine alone: criterion");
    tool::run(
        Command::new(cargo())
            .args(["bench", "--quiet", "--locked", "-p", "engine-bench"])
            .args(["--bench", "engine", "--", "--noplot"])
            .args(["--measurement-time", "3", "--warm-up-time", "1"])
            .current_dir(&root),
    )?;
    let mut rows = Vec::new();
    for storage in ["noop", "file"] {
        for device in ["engine", "inline"] {
            for requests in [1, 4, 16, 64, 256] {
                let path = root
                    .join("target/criterion")
                    .join(storage)
                    .join(device)
                    .join(requests.to_string())
                    .join("new/estimates.json");
                let text = fs::read(&path).with_context(|| path.display().to_string())?;
                let estimates: Estimates = serde_json::from_slice(&text)?;
                rows.push(json!({
                    "storage": storage,
                    "device": device,
                    "requests": requests,
                    "median_ns": estimates.median.point_estimate.round(),
                }));
            }
        }
    }
    progress.step("the engine alone: instructions");
    packages::ensure_also(progress, &[("valgrind", "valgrind")])?;
    tool::run(
        Command::new(cargo())
            .args([
                "build",
                "--quiet",
                "--locked",
                "--release",
                "-p",
                "engine-bench",
            ])
            .current_dir(&root),
    )?;
    let program = root.join("target/release/engine-bench");
    let (few, _) = callgrind(&program, FEW)?;
    let (many, allocations) = callgrind(&program, MANY)?;
    let mut others = Map::new();
    let per_flush = (many - few) / (MANY - FEW);
    others.insert("instructions_per_flush".to_owned(), json!(per_flush));
    others.insert(
        "allocations_per_1000_flushes".to_owned(),
        json!(allocations * 1000 / MANY),
    );
    Ok(File {
        name: "engine".to_owned(),
        date: file::today()?,
        commit: commit()?,
        machine: file::this_machine(),
        quick: false,
        settings: Map::new(),
        rows,
        others,
    })
}

/// Instructions of all threads, and the allocations that the program counted.
fn callgrind(program: &Path, flushes: u64) -> Result<(u64, u64)> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .arg(flushes.to_string())
        .output()
        .context("cannot run valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("valgrind: {}\n{}", output.status, tool::tail(&said, 20));
    }
    let instructions = collected(&said).context("callgrind has not said what it collected")?;
    let allocations = String::from_utf8_lossy(&output.stdout).trim().parse()?;
    Ok((instructions, allocations))
}

fn collected(said: &str) -> Option<u64> {
    let (_, number) = said
        .lines()
        .find_map(|line| line.split_once("Collected : "))?;
    number.trim().parse().ok()
}

/// The median of a case, in nanoseconds.
pub fn median_ns(rows: &[Value], storage: &str, device: &str, requests: u64) -> Option<f64> {
    let row = rows.iter().find(|row| {
        row["storage"] == storage && row["device"] == device && row["requests"] == requests
    })?;
    row["median_ns"].as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_after_collected_counts() {
        let said = "==7== Events    : Ir\n==7== Collected : 123456\n==7== I refs: 123,456\n";
        assert_eq!(collected(said), Some(123_456));
        assert_eq!(collected("nothing"), None);
    }

    #[test]
    fn a_case_is_found_by_its_three_names() {
        let rows =
            [json!({"storage": "noop", "device": "engine", "requests": 4, "median_ns": 7.0})];
        assert_eq!(median_ns(&rows, "noop", "engine", 4), Some(7.0));
        assert_eq!(median_ns(&rows, "noop", "inline", 4), None);
    }
}
