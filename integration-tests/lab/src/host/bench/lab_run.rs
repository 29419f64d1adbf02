// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One benchmark in a lab of its own.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::host::bench::disturbance::Sample;
use crate::host::lab::{Lab, last_words};
use crate::host::machine::Next;
use crate::host::progress::Progress;
use crate::host::setup::Assets;
use crate::host::share::Extra;
use crate::job::{Outcome, Record, Trial, TrialResult, Work};
use crate::scenarios::Scenario;

/// Boot and power-off, besides the scenario's own limit.
const AROUND: Duration = Duration::from_secs(300);

/// What came out.
pub struct Measured {
    /// The scenario's rows, each with `disturbed`, the share of the processors' time that others had
    /// meanwhile.
    pub rows: Vec<Value>,
    /// Measurements that are no rows.
    pub others: Vec<(String, Value)>,
}

/// Runs it. A scenario that fails is an error: half a benchmark is none.
pub fn run(
    assets: &Assets,
    progress: &Progress,
    scenario: &Scenario,
    trial: Trial,
    extras: &[Extra],
) -> Result<Measured> {
    progress.step(&format!("starting a lab for {}", scenario.name));
    let trials = vec![trial];
    let lab = Lab::start(assets, Work::Trials { trials }, extras)?;
    let id = lab.machine.id();
    let deadline = Instant::now() + scenario.limit + AROUND;
    let mut steps = Steps::new(Sample::of(id));
    let mut result = None;
    loop {
        match lab.machine.next(deadline)? {
            Next::Record(record) => match *record {
                Record::Progress { text, .. } => {
                    steps.begin(&text, Sample::of(id));
                    progress.step(&format!("{}: {text}", scenario.name));
                }
                Record::Finished { result: over, .. } => result = Some(*over),
                Record::Done => break,
                Record::Broken { text } => bail!("the lab is broken: {text}"),
                _ => {}
            },
            Next::Ended => bail!("the lab died\n{}", last_words(&lab.machine)),
            Next::Timeout => bail!("the lab hangs\n{}", last_words(&lab.machine)),
        }
    }
    let Some(result) = result else {
        bail!("the lab ended without a result of {}", scenario.name);
    };
    passed(&result)?;
    Ok(sorted(result, &steps))
}

fn passed(result: &TrialResult) -> Result<()> {
    match &result.outcome {
        Outcome::Passed => Ok(()),
        Outcome::Skipped { reason } => bail!("not possible here: {reason}"),
        Outcome::Failed { reason } => {
            let logs: Vec<_> = result
                .logs
                .iter()
                .map(|log| format!("--- {} ---\n{}", log.name, log.text))
                .collect();
            bail!("{reason}\n{}", logs.join("\n"))
        }
    }
}

fn sorted(result: TrialResult, steps: &Steps) -> Measured {
    let mut rows = Vec::new();
    let mut others = Vec::new();
    for (name, mut value) in result.measurements {
        if let Some(row) = value.as_object_mut()
            && let Some(step) = row.remove("step")
        {
            let lost = step.as_str().and_then(|step| steps.lost(step));
            row.insert("disturbed".to_owned(), json!(lost));
        }
        if name.starts_with("row-") {
            rows.push(value);
        } else {
            others.push((name, value));
        }
    }
    Measured { rows, others }
}

/// How disturbed each step was. A step that comes again counts with its worst time.
struct Steps {
    current: String,
    since: Sample,
    lost: HashMap<String, f64>,
}

impl Steps {
    fn new(now: Sample) -> Self {
        Self {
            current: String::new(),
            since: now,
            lost: HashMap::new(),
        }
    }

    fn begin(&mut self, step: &str, now: Sample) {
        let lost = now.lost_since(&self.since);
        let worst = self.lost.entry(self.current.clone()).or_default();
        *worst = worst.max(lost);
        self.current = step.to_owned();
        self.since = now;
    }

    fn lost(&self, step: &str) -> Option<f64> {
        self.lost.get(step).copied()
    }
}
