// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Guests, two at a time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::host::driver;
use crate::host::guests::catalogue::{GuestTest, Under};
use crate::host::guests::{image, machine, outcome};
use crate::host::keeper;
use crate::host::progress::Progress;
use crate::host::tool;
use crate::host::trials::{Ran, Verdict};
use crate::job::{Driver, Log, Outcome, Trial, TrialResult};

/// Each has four processors and waits little: more of them only share the machine's time out.
const GUESTS: usize = 2;

/// What all guests are started from.
pub struct GuestAssets {
    /// By series.
    pub kernels: BTreeMap<String, GuestKernel>,
    /// A static busybox.
    pub busybox: PathBuf,
    /// The library that makes syncs slow.
    pub slow_fsync: PathBuf,
    /// Where guests put their private files.
    pub runs: PathBuf,
    /// What QEMU says it is.
    pub qemu: String,
}

/// A kernel and what fits it.
pub struct GuestKernel {
    /// The release in full.
    pub release: String,
    /// The bzImage.
    pub image: PathBuf,
    /// The initramfs with modules and tools.
    pub base: PathBuf,
}

/// A test to run, and where its verdict goes.
pub struct GuestRequest {
    /// The test.
    pub test: &'static GuestTest,
    /// What it runs under.
    pub under: Under,
    /// With which driver, kernel and settings.
    pub trial: Trial,
    /// What it took the last time, or its limit.
    pub cost: Duration,
    /// Who waits for it.
    pub verdict: Sender<Verdict>,
}

/// Runs all; every verdict has been sent when it returns.
pub fn run(assets: &GuestAssets, progress: &Progress, mut requests: Vec<GuestRequest>) {
    requests.sort_by_key(|request| Reverse(request.cost));
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let queue = Mutex::new(VecDeque::from(requests));
    let next = || {
        queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    thread::scope(|scope| {
        for _ in 0..GUESTS.min(processors) {
            scope.spawn(|| {
                while let Some(request) = next() {
                    progress.step(&request.trial.scenario);
                    let verdict = verdict(assets, &request);
                    progress.rest();
                    // Nobody waits any more when the run was ended.
                    let _ = request.verdict.send(verdict);
                }
            });
        }
    });
}

fn verdict(assets: &GuestAssets, request: &GuestRequest) -> Verdict {
    let begun = Instant::now();
    let trial = &request.trial;
    let ended = if request.test.needs_ours() && trial.driver == Driver::C {
        Ok((
            Outcome::Skipped {
                reason: "the kernel's driver has no fault hooks and no timeouts".to_owned(),
            },
            String::new(),
        ))
    } else {
        boot(assets, request)
    };
    let (outcome, console) = match ended {
        Ok(ended) => ended,
        Err(error) => {
            let ran = Some(Ran::trial(trial));
            return Verdict::failed(format!("{error:#}"), begun.elapsed(), ran);
        }
    };
    let mut measurements = outcome::measurements(&console);
    if let Some(kernel) = assets.kernels.get(&trial.kernel) {
        measurements.insert("kernel_release".to_owned(), kernel.release.clone().into());
    }
    Verdict::of_lab(TrialResult {
        duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        logs: match outcome {
            Outcome::Failed { .. } => vec![Log {
                name: "console".to_owned(),
                text: tool::tail(&console, 200),
            }],
            _ => Vec::new(),
        },
        measurements,
        outcome,
        trial: trial.clone(),
        vmm_version: Some(assets.qemu.clone()),
    })
}

fn boot(assets: &GuestAssets, request: &GuestRequest) -> Result<(Outcome, String)> {
    let trial = &request.trial;
    let kernel = assets
        .kernels
        .get(&trial.kernel)
        .with_context(|| format!("no Linux {} for guests", trial.kernel))?;
    let dir = keeper::run_dir(&assets.runs)?;
    let initramfs = dir.path().join("initramfs");
    let flavour = request.test.flavour(request.under);
    image::initramfs(
        &initramfs,
        &kernel.base,
        &assets.busybox,
        request.test.script,
        &driver::dir(flavour, &kernel.release)?,
    )?;
    let end = machine::run(&machine::Start {
        kernel: &kernel.image,
        initramfs: &initramfs,
        memory_mib: request.under.memory_mib(),
        ones: request.test.ones,
        port: request.test.port,
        second_mib: request.test.second_mib,
        slow_fsync: (&assets.slow_fsync, request.test.flush_ms),
        words: &words(trial, request.under),
        dir: dir.path(),
        limit: request.test.limit * request.under.slowness(),
    })?;
    let outcome = match (outcome::outcome(&end.console), end.wrong) {
        (Some(outcome @ Outcome::Failed { .. }), _) => outcome,
        (_, Some(wrong)) => outcome::no_verdict(&end.console, &wrong),
        (Some(Outcome::Passed), None) => {
            outcome::after_verdict(&end.console, request.test.last_words)
        }
        (Some(outcome), None) => outcome,
        (None, None) => outcome::no_verdict(&end.console, "the guest ended without a verdict"),
    };
    Ok((outcome, end.console))
}

fn words(trial: &Trial, under: Under) -> String {
    let mut words = format!(
        "driver={} slowness={}",
        trial.driver.name(),
        under.slowness()
    );
    for (name, value) in &trial.options {
        words.push_str(&format!(" {name}={value}"));
    }
    words
}
