// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The process of one trial, and what it tells the runner.

use std::any::Any;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::inside::context::{Context, Missing};
use crate::inside::runner;
use crate::job::{Log, Outcome, Work};
use crate::scenarios;

/// Where a trial writes the logs that are shown when it fails.
pub const LOGS: &str = "/run/trial/logs";

/// The most of one log that goes into a result, in bytes.
const LOG_TAIL: usize = 32 << 10;

/// One line from a trial's process to the runner.
#[derive(Deserialize, Serialize)]
pub enum Said {
    /// It begins a step.
    Step(String),
    /// It measured something.
    Measured(String, Value),
    /// It asked the VMM for its version.
    VmmVersion(String),
    /// It is over.
    Ended(Outcome),
}

impl Said {
    /// Tells the runner.
    pub fn say(&self) {
        if let Ok(line) = serde_json::to_string(self) {
            println!("{line}");
        }
    }
}

/// Runs trial `index` of the job and says how it ended.
pub fn run(index: Option<&str>) -> ExitCode {
    let ended = match catch_unwind(AssertUnwindSafe(|| one(index))) {
        Ok(Ok(())) => Outcome::Passed,
        Ok(Err(error)) => match error.downcast_ref::<Missing>() {
            Some(missing) => Outcome::Skipped {
                reason: missing.to_string(),
            },
            None => Outcome::Failed {
                reason: format!("{error:#}"),
            },
        },
        Err(cause) => Outcome::Failed {
            reason: format!("panic: {}", text_of(cause.as_ref())),
        },
    };
    Said::Ended(ended).say();
    ExitCode::SUCCESS
}

fn one(index: Option<&str>) -> Result<()> {
    let index: usize = index
        .unwrap_or_default()
        .parse()
        .context("no trial number")?;
    let job = runner::job()?;
    let trial = match job.work {
        Work::Trials { trials } => trials.into_iter().nth(index),
        Work::Exec { .. } => None,
    };
    let trial = trial.ok_or_else(|| anyhow!("the job has no trial {index}"))?;
    let scenario = scenarios::find(&trial.scenario).ok_or_else(|| anyhow!("no such scenario"))?;
    fs::create_dir_all(LOGS).with_context(|| format!("cannot make {LOGS}"))?;
    let mut context = Context::new(trial, job.emulated)?;
    (scenario.run)(&mut context)
}

fn text_of(cause: &(dyn Any + Send)) -> &str {
    cause
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("no text")
}

/// The ends of the trial's logs, by name.
pub fn logs() -> Vec<Log> {
    let Ok(entries) = fs::read_dir(LOGS) else {
        return Vec::new();
    };
    let mut logs: Vec<_> = entries
        .flatten()
        .map(|entry| Log {
            name: entry.file_name().to_string_lossy().into_owned(),
            text: tail(&entry.path()),
        })
        .filter(|log| !log.text.is_empty())
        .collect();
    logs.sort_by(|one, other| one.name.cmp(&other.name));
    logs
}

fn tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let from = bytes.len().saturating_sub(LOG_TAIL);
    String::from_utf8_lossy(&bytes[from..]).into_owned()
}
