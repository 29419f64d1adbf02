// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What came out of a test: for libtest-mimic, for the results folder, for the last line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use libtest_mimic::{Completion, Conclusion, Failed};
use serde::{Deserialize, Serialize};

use crate::host::guests;
use crate::host::lab;
use crate::host::programs;
use crate::host::setup::Assets;
use crate::host::tool;
use crate::host::trials::workspace::{Figures, Versions};
use crate::job::{Outcome, Trial, TrialResult};
use crate::scenarios::{self, Expect};

/// How a test ended.
#[derive(Clone, Debug)]
pub struct Verdict {
    outcome: Outcome,
    took: Duration,
    ran: Option<Ran>,
}

/// What ran.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Ran {
    /// In a lab, to its end.
    Result(Box<TrialResult>),
    /// Its lab died under it.
    Trial {
        /// What was to run.
        trial: Box<Trial>,
    },
    /// On the host.
    Host {
        /// What it counted, if it came to its end.
        figures: Figures,
        /// What a fuzzer's choices followed from.
        #[serde(skip_serializing_if = "Option::is_none")]
        seed: Option<u32>,
        /// What it ran with.
        #[serde(flatten)]
        versions: Versions,
    },
}

impl Ran {
    /// Something whose lab died.
    pub fn trial(trial: &Trial) -> Self {
        Self::Trial {
            trial: Box::new(trial.clone()),
        }
    }
}

impl Verdict {
    /// Of a test on the host.
    pub fn of_host(
        result: Result<Figures>,
        took: Duration,
        seed: Option<u32>,
        versions: &Versions,
    ) -> Self {
        let (outcome, figures) = match result {
            Ok(figures) => (Outcome::Passed, figures),
            Err(error) => {
                let reason = format!("{error:#}");
                (Outcome::Failed { reason }, Figures::new())
            }
        };
        let versions = versions.clone();
        Self {
            outcome,
            took,
            ran: Some(Ran::Host {
                figures,
                seed,
                versions,
            }),
        }
    }

    /// Of a scenario that came to its end.
    pub fn of_lab(result: TrialResult) -> Self {
        Self {
            outcome: result.outcome.clone(),
            took: Duration::from_millis(result.duration_ms),
            ran: Some(Ran::Result(Box::new(result))),
        }
    }

    /// Turned round if the scenario is a negative control: a failure as foretold is what was asked
    /// for, anything else is not.
    pub fn judged(mut self, expect: Expect) -> Self {
        let Expect::Failure(texts) = expect else {
            return self;
        };
        self.outcome = match self.outcome {
            Outcome::Failed { reason } if self.ran_to_its_end() => {
                match texts.iter().find(|&&text| !reason.contains(text)) {
                    None => Outcome::Passed,
                    Some(text) => Outcome::Failed {
                        reason: format!(
                            "the control failed as it should, but not with {text:?}: {reason}"
                        ),
                    },
                }
            }
            Outcome::Passed => Outcome::Failed {
                reason: "the control passed: the scenario does not see the defect it is there for"
                    .to_owned(),
            },
            other => other,
        };
        self
    }

    fn ran_to_its_end(&self) -> bool {
        matches!(self.ran, Some(Ran::Result(_)))
    }

    /// Of one that did not.
    pub fn failed(reason: String, took: Duration, ran: Option<Ran>) -> Self {
        Self {
            outcome: Outcome::Failed { reason },
            took,
            ran,
        }
    }

    /// The scenario's figures and logs, if it came to its end.
    pub fn result(&self) -> Option<&TrialResult> {
        match &self.ran {
            Some(Ran::Result(result)) => Some(result),
            _ => None,
        }
    }

    /// True if all that was asked for was seen.
    pub fn is_passed(&self) -> bool {
        self.outcome == Outcome::Passed
    }

    /// Why it failed or was skipped.
    pub fn reason(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Passed => None,
            Outcome::Failed { reason } | Outcome::Skipped { reason } => Some(reason),
        }
    }

    /// The reason, and the last lines of each log.
    pub fn last_words(&self, lines: usize) -> String {
        let mut text = self.reason().unwrap_or_default().to_owned();
        for log in self.result().iter().flat_map(|result| &result.logs) {
            let end = tool::tail(&log.text, lines);
            text.push_str(&format!("\n--- {} ---\n{end}", log.name));
        }
        text
    }

    /// In libtest-mimic's words; a failure's message has the ends of the logs.
    pub fn completion(&self) -> Result<Completion, Failed> {
        match &self.outcome {
            Outcome::Passed => Ok(Completion::Completed),
            Outcome::Skipped { reason } => Ok(Completion::ignored_with(reason)),
            Outcome::Failed { .. } => Err(self.last_words(40).into()),
        }
    }
}

/// The folder with one JSON file for each test.
pub struct Results {
    dir: PathBuf,
    commit: String,
}

/// What all results of a run have in common.
#[derive(Serialize)]
struct Written<'a> {
    name: &'a str,
    #[serde(flatten)]
    outcome: &'a Outcome,
    duration_ms: u128,
    commit: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    control: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lab: Option<&'a Environment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ran: Option<&'a Ran>,
}

/// The machine a scenario ran on.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    accel: &'static str,
    lab_kernel: String,
    guest_kernels: Vec<String>,
    lab_root: String,
}

impl Environment {
    /// From what labs are started from.
    pub fn new(assets: &Assets) -> Result<Self> {
        Ok(Self {
            accel: lab::accel(assets)?.name(),
            lab_kernel: assets.lab_kernel.release.clone(),
            guest_kernels: assets
                .guests
                .iter()
                .map(|guest| guest.release.clone())
                .collect(),
            lab_root: assets
                .root
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        })
    }
}

#[derive(Deserialize)]
struct Before {
    outcome: String,
    duration_ms: u64,
}

/// What this was built from.
pub fn commit() -> Result<String> {
    let text = tool::output(
        Command::new("git")
            .args(["describe", "--always", "--dirty", "--abbrev=12"])
            .current_dir(programs::workspace()?),
    );
    // A source archive has no history.
    Ok(text.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned()))
}

impl Results {
    /// `target/results`.
    pub fn open() -> Result<Self> {
        let root = programs::workspace()?;
        let dir = root.join("target/results");
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        Ok(Self {
            dir,
            commit: commit()?,
        })
    }

    /// Writes one test's file.
    pub fn write(&self, name: &str, verdict: &Verdict, lab: Option<&Environment>) -> Result<()> {
        let words = verdict.result().and_then(|result| {
            let name = &result.trial.scenario;
            let scenario = scenarios::find(name).map(|found| (found.summary, found.control));
            scenario.or_else(|| guests::find(name).map(|found| (found.summary, found.control)))
        });
        let written = Written {
            name,
            outcome: &verdict.outcome,
            duration_ms: verdict.took.as_millis(),
            commit: &self.commit,
            about: words.map(|(summary, _)| summary),
            control: words.map(|(_, control)| control),
            lab,
            ran: verdict.ran.as_ref(),
        };
        let path = self.path(name);
        fs::write(&path, serde_json::to_vec_pretty(&written)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// What a test took when it last passed.
    pub fn last_duration(&self, name: &str) -> Option<Duration> {
        let text = fs::read(self.path(name)).ok()?;
        let before: Before = serde_json::from_slice(&text).ok()?;
        (before.outcome == "passed").then(|| Duration::from_millis(before.duration_ms))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }

    /// Where they are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// The last line of a run; nothing else is on it.
pub fn closing_line(conclusion: &Conclusion) -> String {
    let Conclusion {
        num_passed,
        num_failed,
        num_ignored,
        ..
    } = conclusion;
    let skipped = if *num_ignored > 0 {
        format!(", {num_ignored} skipped")
    } else {
        String::new()
    };
    format!("{num_passed} passed, {num_failed} failed{skipped}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use anyhow::anyhow;

    use super::*;
    use crate::job::{Driver, VmmChoice, VmmKind};

    #[test]
    fn the_closing_line_counts_passed_failed_and_skipped() {
        let mut conclusion = Conclusion {
            num_filtered_out: 0,
            num_passed: 3,
            num_failed: 1,
            num_ignored: 0,
            num_measured: 0,
        };
        assert_eq!(closing_line(&conclusion), "3 passed, 1 failed");
        conclusion.num_ignored = 2;
        assert_eq!(closing_line(&conclusion), "3 passed, 1 failed, 2 skipped");
    }

    fn of_trial(outcome: Outcome) -> Verdict {
        Verdict::of_lab(TrialResult {
            duration_ms: 1,
            logs: Vec::new(),
            measurements: BTreeMap::new(),
            outcome,
            trial: Trial {
                driver: Driver::C,
                kernel: "7.3".to_owned(),
                options: BTreeMap::new(),
                scenario: "a".to_owned(),
                seed: 1,
                vmm: VmmChoice {
                    kind: VmmKind::Vmm,
                    path: PathBuf::from("/x"),
                },
            },
            vmm_version: None,
        })
    }

    #[test]
    fn a_control_passes_only_if_it_fails_as_foretold() {
        let failed = |reason: &str| {
            of_trial(Outcome::Failed {
                reason: reason.to_owned(),
            })
        };
        let control = Expect::Failure(&["3 acked blocks", "not as acked"]);
        let good = failed("of 3 acked blocks 1 are not as acked").judged(control);
        assert!(good.is_passed(), "{good:?}");
        let other = failed("the guest's agent does not answer").judged(control);
        assert!(other.reason().unwrap().contains("\"3 acked blocks\""));
        let passed = of_trial(Outcome::Passed).judged(control);
        assert!(passed.reason().unwrap().contains("the control passed"));
        let reason = "the lab died: 3 acked blocks are not as acked".to_owned();
        let died = Verdict::failed(reason, Duration::ZERO, None).judged(control);
        assert!(!died.is_passed());
        assert!(!failed("x").judged(Expect::Pass).is_passed());
        assert!(of_trial(Outcome::Passed).judged(Expect::Pass).is_passed());
    }

    #[test]
    fn a_result_can_be_read_back_and_a_failure_is_no_measure_of_time() {
        let dir = tempfile::tempdir().unwrap();
        let results = Results {
            dir: dir.path().to_owned(),
            commit: "c".to_owned(),
        };
        let took = Duration::from_millis(1500);
        let versions = Versions {
            kernel: "7.3.4".to_owned(),
            rustc: "rustc 1.89.0".to_owned(),
        };
        let of_host = |result| Verdict::of_host(result, took, Some(3), &versions);
        let words = ["\"seed\": 3", "\"kernel\": \"7.3.4\"", "\"rustc\": \"rustc"];
        let good = of_host(Ok(Figures::from([("executions", 7)])));
        results.write("a", &good, None).unwrap();
        let text = fs::read_to_string(dir.path().join("a.json")).unwrap();
        assert!(text.contains("\"executions\": 7"), "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
        assert_eq!(results.last_duration("a"), Some(took));
        let failed = of_host(Err(anyhow!("why")));
        results.write("a", &failed, None).unwrap();
        assert_eq!(results.last_duration("a"), None);
        let text = fs::read_to_string(dir.path().join("a.json")).unwrap();
        assert!(
            text.contains("\"why\"") && text.contains("\"failed\""),
            "{text}"
        );
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
        assert_eq!(results.last_duration("b"), None);
    }
}
