// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the host gives the lab machine to do, and what it gets back.
//!
//! The job is one JSON object, `/lab/job.json` on the share image. The answers
//! are [`Record`]s, one JSON object a line, on the virtio-serial port
//! [`RESULTS_PORT`]. The lab always powers itself off after [`Record::Done`];
//! a lab that ends without it has failed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Name of the virtio-serial port that carries the records.
pub const RESULTS_PORT: &str = "lab.results";

/// Serial number of the virtio-blk disk that is the scenarios' scratch space.
/// It is blank at every start and at least [`SCRATCH_MIN_BYTES`] long.
pub const SCRATCH_SERIAL: &str = "scratch";

/// The smallest scratch disk the scenarios fit on, in bytes.
pub const SCRATCH_MIN_BYTES: u64 = 8 << 30;

/// Where the share image is mounted inside the lab: `bin/`, `images/`, `job.json`.
pub const SHARE: &str = "/lab";

/// Below [`SHARE`]: the unpatched VMM, if the user named one.
pub const STOCK_VMM: &str = "bin/vmm-stock";

/// Serial number of the virtio-blk disk that holds the lab's root filesystem.
pub const ROOT_SERIAL: &str = "root";

/// Serial number of the virtio-blk disk that holds the share image.
pub const SHARE_SERIAL: &str = "share";

/// How often a lab says that it lives while a trial runs.
pub const ALIVE_EVERY: Duration = Duration::from_secs(10);

/// Everything one start of the lab machine has to do.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Job {
    /// True where the lab's KVM is itself emulated: bounds on time are wider.
    pub emulated: bool,
    /// What to do.
    pub work: Work,
}

/// What a lab machine is started for.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", tag = "work")]
pub enum Work {
    /// Run one command, pass its output on, and end with its exit code.
    Exec {
        /// The program and its arguments.
        command: Vec<String>,
    },
    /// Run these trials one after the other.
    Trials {
        /// The trials, in order.
        trials: Vec<Trial>,
    },
}

/// One run of one scenario.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Trial {
    /// The guest's virtio-pmem driver.
    pub driver: Driver,
    /// Guest kernel: `7.3` or `6.12`, the suffix of its files in `images/`.
    pub kernel: String,
    /// Free settings of a scenario (`rounds=200`), from `--set NAME=VALUE`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// The scenario's name.
    pub scenario: String,
    /// Seed of everything random in the run.
    pub seed: u64,
    /// The virtual machine monitor under test.
    pub vmm: VmmChoice,
}

/// A virtual machine monitor as the lab sees it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct VmmChoice {
    /// How it is driven.
    pub kind: VmmKind,
    /// The binary, inside the lab.
    pub path: PathBuf,
}

/// How a virtual machine monitor is driven.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmmKind {
    /// Ours: cloud-hypervisor's flags and REST paths.
    Vmm,
    /// Any cloud-hypervisor, stock or patched.
    CloudHypervisor,
    /// QEMU with virtio-pmem-pci, over QMP.
    Qemu,
}

/// The guest's virtio-pmem driver.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// The kernel's own.
    C,
    /// Ours.
    Rust,
}

impl Driver {
    /// The value of `agent.driver=` on the guest's command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::C => "c",
            Self::Rust => "rust",
        }
    }
}

/// One line from the lab.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", tag = "record")]
pub enum Record {
    /// The lab is up and has read its job.
    Booted {
        /// `uname -r` of the lab.
        kernel: String,
        /// Milliseconds since the lab's kernel started.
        uptime_ms: u64,
    },
    /// A trial begins.
    Started {
        /// Index into the job's trials.
        trial: usize,
    },
    /// A trial is at the same step as before, and the lab lives: sent every [`ALIVE_EVERY`].
    Alive,
    /// A trial has come to a new step.
    Progress {
        /// The step, a short phrase.
        text: String,
        /// Index into the job's trials.
        trial: usize,
    },
    /// A trial is over.
    Finished {
        /// What came out.
        result: Box<TrialResult>,
        /// Index into the job's trials.
        trial: usize,
    },
    /// Output of an exec command, in the order it was read.
    Output {
        /// True for standard error.
        error: bool,
        /// The bytes, with what is not UTF-8 replaced.
        text: String,
    },
    /// An exec command is over.
    Exited {
        /// Its exit code; 128 + the signal's number if a signal ended it.
        code: i32,
    },
    /// The lab itself failed; no trial is to blame.
    Broken {
        /// Why, one line.
        text: String,
    },
    /// The last line: everything was done and the lab now powers off.
    Done,
}

/// What came out of one trial.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TrialResult {
    /// Wall time of the trial inside the lab, milliseconds.
    pub duration_ms: u64,
    /// Ends of the logs a reader wants to see when the trial failed.
    pub logs: Vec<Log>,
    /// Named figures, in the scenario's words (`pause_ms_max`).
    pub measurements: BTreeMap<String, Value>,
    /// Passed, failed or skipped.
    pub outcome: Outcome,
    /// What was run.
    pub trial: Trial,
    /// What the VMM says its version is, if it was asked.
    pub vmm_version: Option<String>,
}

/// How a trial ended.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// All that was asked for was seen.
    Passed,
    /// A rule was broken, or the run proves nothing.
    Failed {
        /// The cause, with its chain.
        reason: String,
    },
    /// The VMM, kernel or driver lacks what the scenario needs.
    Skipped {
        /// What is missing.
        reason: String,
    },
}

/// The end of a log.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Log {
    /// `console`, `vmm`, `events`, …
    pub name: String,
    /// Its last part.
    pub text: String,
}
