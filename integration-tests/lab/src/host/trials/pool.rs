// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Scenarios in labs, several labs at once.
//!
//! A lab that dies or hangs takes only the scenario that was running in it; a fresh lab goes on with
//! the others.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow};

use crate::host::accel::Accel;
use crate::host::lab::{self, Lab, last_words};
use crate::host::machine::Next;
use crate::host::progress::Progress;
use crate::host::setup::Assets;
use crate::host::share::Extra;
use crate::host::trials::batch;
use crate::host::trials::report::{Ran, Verdict};
use crate::job::{Outcome, Record, Trial, TrialResult, Work};

/// From QEMU's start to the first record; half a minute at most, if the machine is not busy.
const BOOT: Duration = Duration::from_secs(300);

/// The lab watches its scenarios' time itself, and cleans up. This is for a lab that can't.
const GRACE: Duration = Duration::from_secs(120);

/// A lab that runs a trial and says nothing for so long stands still: its emulator does, once in
/// a while, and the trial's own limit is much longer.
const SILENCE: Duration = Duration::from_secs(120);

/// Boots that may fail in a row before the scenarios that wait for them do.
const BOOTS: u32 = 2;

/// Labs that may be lost under a scenario before it fails: an emulator that stands still is no
/// finding, one that does so again may be.
const LOSSES: u32 = 2;

/// Guests that the emulator may take from a scenario before it fails.
const EMULATOR_FAULTS: usize = 3;

/// What cloud-hypervisor says of such a guest. QEMU's SVM leaves the type of the exception that the guest took last in
/// EXITINTINFO, without its valid bit; KVM looks at the type only (svm_check_emulate_instruction) and takes
/// an access to a page of registers that it has not met before for one that happens within the delivery of the
/// exception. See docs/cloud-hypervisor.md.
const EMULATOR_FAULT: &str = "Unexpected exit reason on vcpu run: InternalError";

/// A scenario to run, and where its verdict goes.
pub struct Request {
    /// What to run.
    pub trial: Trial,
    /// Its own limit.
    pub limit: Duration,
    /// What it took the last time, or its limit.
    pub cost: Duration,
    /// Who waits for it.
    pub verdict: Sender<Verdict>,
    /// Boots that failed with it as the next to run.
    pub failed_boots: u32,
    /// Labs that were lost while it ran.
    pub lost_labs: u32,
    /// How each guest ended that was lost to the emulator.
    pub emulator_faults: Vec<String>,
}

/// Labs and what they have to do.
pub struct Pool<'a> {
    assets: &'a Assets,
    extras: &'a [Extra],
    labs: usize,
    progress: &'a Progress,
    queue: Mutex<VecDeque<Request>>,
}

impl<'a> Pool<'a> {
    /// A pool of `labs` machines.
    pub fn new(
        assets: &'a Assets,
        extras: &'a [Extra],
        progress: &'a Progress,
        labs: usize,
        requests: Vec<Request>,
    ) -> Self {
        let queue = batch::sorted(requests, |request| request.cost);
        Self {
            assets,
            extras,
            labs,
            progress,
            queue: Mutex::new(queue),
        }
    }

    /// Runs everything; all verdicts have been sent when it returns.
    pub fn run(&self) {
        thread::scope(|scope| {
            for _ in 0..self.labs {
                scope.spawn(|| self.work());
            }
        });
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Request>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let requests = batch::next(&mut self.queue(), self.labs);
            if requests.is_empty() {
                return;
            }
            let mut shift = Shift::new(requests);
            if let Err(error) = self.shift(&mut shift) {
                shift.blame(&error);
            }
            batch::put_back(&mut self.queue(), shift.left());
        }
    }

    /// One lab from boot to power-off.
    fn shift(&self, shift: &mut Shift) -> Result<()> {
        let trials = shift.trials();
        self.progress
            .step(&format!("starting a lab for {}", names(&trials)));
        let lab = Lab::start(self.assets, Work::Trials { trials }, self.extras)?;
        let emulated = lab::accel(self.assets)? == Accel::Tcg;
        let mut deadline = Instant::now() + BOOT;
        let mut running = false;
        loop {
            let silence = Instant::now() + SILENCE;
            let until = if running {
                deadline.min(silence)
            } else {
                deadline
            };
            match lab.machine.next(until)? {
                Next::Record(record) => match *record {
                    Record::Started { trial } => {
                        running = true;
                        deadline = Instant::now() + shift.start(trial) + GRACE;
                    }
                    Record::Progress { trial, text } => {
                        let name = shift.name(trial);
                        self.progress.step(&format!("{name}: {text}"));
                    }
                    Record::Finished { result, trial } => {
                        running = false;
                        self.progress.rest();
                        shift.finish(trial, *result, emulated);
                        deadline = Instant::now() + GRACE;
                    }
                    Record::Done => return Ok(()),
                    Record::Broken { text } => {
                        return Err(anyhow!(
                            "the lab is broken: {text}\n{}",
                            last_words(&lab.machine)
                        ));
                    }
                    _ => {}
                },
                Next::Ended => return Err(anyhow!("the lab died\n{}", last_words(&lab.machine))),
                Next::Timeout => {
                    return Err(anyhow!("the lab hangs\n{}", last_words(&lab.machine)));
                }
            }
        }
    }
}

fn is_emulator_fault(result: &TrialResult) -> bool {
    let failed = matches!(result.outcome, Outcome::Failed { .. });
    failed
        && result
            .logs
            .iter()
            .any(|log| log.text.contains(EMULATOR_FAULT))
}

fn names(trials: &[Trial]) -> String {
    let names: Vec<_> = trials.iter().map(|trial| trial.scenario.as_str()).collect();
    names.join(", ")
}

/// What one lab was given and how far it came.
struct Shift {
    requests: Vec<Option<Request>>,
    running: Option<(usize, Instant)>,
    any_started: bool,
}

impl Shift {
    fn new(requests: Vec<Request>) -> Self {
        Self {
            requests: requests.into_iter().map(Some).collect(),
            running: None,
            any_started: false,
        }
    }

    fn trials(&self) -> Vec<Trial> {
        self.requests
            .iter()
            .flatten()
            .map(|request| request.trial.clone())
            .collect()
    }

    fn name(&self, index: usize) -> &str {
        let request = self.requests.get(index).and_then(Option::as_ref);
        request.map_or("?", |request| &request.trial.scenario)
    }

    /// The limit of what was started.
    fn start(&mut self, index: usize) -> Duration {
        self.any_started = true;
        self.running = Some((index, Instant::now()));
        let request = self.requests.get(index).and_then(Option::as_ref);
        request.map_or(Duration::ZERO, |request| request.limit)
    }

    fn finish(&mut self, index: usize, mut result: TrialResult, emulated: bool) {
        self.running = None;
        let Some(slot) = self.requests.get_mut(index) else {
            return;
        };
        if let Some(request) = slot
            && emulated
            && is_emulator_fault(&result)
        {
            let said = Verdict::of_lab(result.clone()).last_words(10);
            request.emulator_faults.push(said);
            if request.emulator_faults.len() < EMULATOR_FAULTS {
                let name = &request.trial.scenario;
                eprintln!(
                    "{name} runs once more, as the emulator lost its guest: {EMULATOR_FAULT}"
                );
                return;
            }
        }
        if let Some(request) = slot.take() {
            if !request.emulator_faults.is_empty() {
                let faults = request.emulator_faults.clone().into();
                result
                    .measurements
                    .insert("emulator_faults".to_owned(), faults);
            }
            request.answer(Verdict::of_lab(result));
        }
    }

    /// The lab is gone: whose fault is it?
    fn blame(&mut self, error: &Error) {
        if let Some((index, begun)) = self.running.take() {
            let Some(slot) = self.requests.get_mut(index) else {
                return;
            };
            let Some(request) = slot else {
                return;
            };
            request.lost_labs += 1;
            if request.lost_labs < LOSSES {
                let name = &request.trial.scenario;
                eprintln!("{name} runs once more, as its lab was lost: {error:#}");
            } else if let Some(request) = slot.take() {
                request.fail(format!("{error:#}"), begun.elapsed());
            }
            return;
        }
        if self.any_started {
            return;
        }
        // Nothing ran: a boot that failed is nobody's fault, once.
        for slot in &mut self.requests {
            if let Some(request) = slot {
                request.failed_boots += 1;
                if request.failed_boots >= BOOTS
                    && let Some(request) = slot.take()
                {
                    request.fail(format!("the lab does not start: {error:#}"), Duration::ZERO);
                }
            }
        }
    }

    fn left(self) -> Vec<Request> {
        self.requests.into_iter().flatten().collect()
    }
}

impl Request {
    fn answer(self, verdict: Verdict) {
        // Nobody waits any more when the run was ended.
        let _ = self.verdict.send(verdict);
    }

    fn fail(self, reason: String, took: Duration) {
        let verdict = Verdict::failed(reason, took, Some(Ran::trial(&self.trial)));
        self.answer(verdict);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use std::sync::mpsc::{self, Receiver};

    use super::*;
    use crate::job::{Driver, Log, VmmChoice, VmmKind};

    fn request(name: &str) -> (Request, Receiver<Verdict>) {
        let (verdict, receiver) = mpsc::channel();
        let trial = Trial {
            driver: Driver::C,
            kernel: "7.3".to_owned(),
            options: BTreeMap::new(),
            scenario: name.to_owned(),
            seed: 1,
            vmm: VmmChoice {
                kind: VmmKind::Vmm,
                path: PathBuf::from("/x"),
            },
        };
        let second = Duration::from_secs(1);
        (
            Request {
                trial,
                limit: second,
                cost: second,
                verdict,
                failed_boots: 0,
                lost_labs: 0,
                emulator_faults: Vec::new(),
            },
            receiver,
        )
    }

    fn left(shift: Shift) -> Vec<String> {
        shift
            .left()
            .into_iter()
            .map(|request| request.trial.scenario)
            .collect()
    }

    fn result(trial: Trial, outcome: Outcome, log: &str) -> TrialResult {
        TrialResult {
            duration_ms: 5,
            logs: vec![Log {
                name: "vmm-1.log".to_owned(),
                text: log.to_owned(),
            }],
            measurements: BTreeMap::new(),
            outcome,
            trial,
            vmm_version: None,
        }
    }

    fn failed() -> Outcome {
        Outcome::Failed {
            reason: "the line to the guest failed".to_owned(),
        }
    }

    #[test]
    fn a_guest_that_the_emulator_lost_is_tried_again_and_counted() {
        let (a, got) = request("a");
        let trial = a.trial.clone();
        let log = format!("ERROR: {EMULATOR_FAULT}");
        let lost = || result(trial.clone(), failed(), &log);
        let again = |request| {
            let mut shift = Shift::new(vec![request]);
            shift.start(0);
            shift.finish(0, lost(), true);
            shift.left().pop()
        };
        let a = again(again(a).unwrap()).unwrap();
        got.try_recv().unwrap_err();
        assert!(again(a).is_none());
        let verdict = got.recv().unwrap();
        assert!(!verdict.is_passed());
        let measured = &verdict.result().unwrap().measurements;
        let faults = measured["emulator_faults"].as_array().unwrap();
        assert_eq!(faults.len(), EMULATOR_FAULTS);
        let first = faults[0].as_str().unwrap();
        assert!(first.contains("the line to the guest") && first.contains(EMULATOR_FAULT));
    }

    #[test]
    fn only_a_failed_scenario_on_an_emulator_whose_log_says_so_is_tried_again() {
        for (outcome, log, emulated) in [
            (failed(), EMULATOR_FAULT, false),
            (failed(), "another reason", true),
            (Outcome::Passed, EMULATOR_FAULT, true),
        ] {
            let (a, got) = request("a");
            let result = result(a.trial.clone(), outcome, log);
            let mut shift = Shift::new(vec![a]);
            shift.start(0);
            shift.finish(0, result, emulated);
            let verdict = got.try_recv().unwrap();
            assert!(verdict.result().unwrap().measurements.is_empty());
            assert!(left(shift).is_empty());
        }
    }

    #[test]
    fn a_scenario_under_which_two_labs_die_fails_and_no_other() {
        let (a, got_a) = request("a");
        let (b, got_b) = request("b");
        let (c, got_c) = request("c");
        let mut shift = Shift::new(vec![a, b, c]);
        shift.start(0);
        let trial = shift.trials().remove(0);
        shift.finish(0, result(trial, Outcome::Passed, ""), false);
        shift.start(1);
        shift.blame(&anyhow!("gone"));
        let again = shift.left();
        assert_eq!(again.len(), 2);
        got_b.try_recv().unwrap_err();
        let mut shift = Shift::new(again);
        shift.start(0);
        shift.blame(&anyhow!("gone again"));
        assert_eq!(left(shift), ["c"]);
        assert!(got_a.recv().unwrap().is_passed());
        assert!(got_b.recv().unwrap().reason().unwrap().contains("gone"));
        got_c.recv().unwrap_err();
    }

    #[test]
    fn a_lab_that_does_not_start_is_tried_again_once() {
        let (a, got) = request("a");
        let mut shift = Shift::new(vec![a]);
        shift.blame(&anyhow!("no boot"));
        let again = shift.left();
        assert_eq!(again.len(), 1);
        let mut shift = Shift::new(again);
        shift.blame(&anyhow!("no boot"));
        assert!(left(shift).is_empty());
        assert!(got.recv().unwrap().reason().unwrap().contains("no boot"));
    }

    #[test]
    fn a_lab_that_dies_between_scenarios_blames_none() {
        let (a, _got_a) = request("a");
        let (b, got_b) = request("b");
        let mut shift = Shift::new(vec![a, b]);
        shift.start(0);
        shift.running = None;
        shift.requests[0] = None;
        shift.blame(&anyhow!("gone"));
        let again = shift.left();
        assert_eq!(again.len(), 1);
        // The boot was good: it does not count against the next one.
        assert_eq!(again[0].failed_boots, 0);
        drop(again);
        got_b.recv().unwrap_err();
    }
}
