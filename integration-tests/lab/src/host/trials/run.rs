// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One run of `lab test`.

use std::fs;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};

use crate::host::guests::{self, GuestRequest, GuestTest, Under};
use crate::host::packages;
use crate::host::progress::Progress;
use crate::host::setup::{self, Build};
use crate::host::share::Extra;
use crate::host::trials::batch;
use crate::host::trials::catalogue::{self, Kind, Test};
use crate::host::trials::options::Options;
use crate::host::trials::pool::{Pool, Request};
use crate::host::trials::report::{Environment, Results, Verdict, closing_line};
use crate::host::trials::workspace::{Fuzzing, HostTest, Workspace};
use crate::scenarios::{self, Scenario};

/// A trial of libtest-mimic is a thread that waits. More than this many need not wait at once.
const WAITERS: usize = 512;

/// Runs the tests that were asked for.
pub fn main(options: &Options) -> Result<ExitCode> {
    let options = &options.clone().settled();
    let workspace = Workspace::open()?;
    let extras = options.target.extras()?;
    let tests = catalogue::select(
        catalogue::all(&workspace),
        &options.words,
        options.all || options.list,
    )?;
    let mut arguments = Arguments {
        test_threads: Some(WAITERS.min(tests.len()).max(2)),
        ..Arguments::default()
    };
    if options.list {
        arguments.list = true;
        let trials = tests
            .into_iter()
            .map(|test| trial(test.name, test.groups[0], mpsc::channel().1));
        let _ = libtest_mimic::run(&arguments, trials.collect());
        return Ok(ExitCode::SUCCESS);
    }

    packages::ensure(&Progress::new())?;
    let seed = options.seed.unwrap_or_else(any_seed);
    let results = Results::open()?;
    println!("seed {seed}, results in {}", results.dir().display());
    let mut plan = Plan {
        host: Vec::new(),
        guests: Vec::new(),
        scenarios: Vec::new(),
    };
    let mut trials = Vec::new();
    for round in 0..options.count {
        for test in &tests {
            let name = round_name(&test.name, round);
            let (send, receive) = mpsc::channel();
            trials.push(trial(name.clone(), test.groups[0], receive));
            plan.add(test, name, seed.wrapping_add(round.into()), send);
        }
    }
    let conclusion = thread::scope(|scope| {
        scope.spawn(|| plan.run(options, &workspace, &extras, &results));
        libtest_mimic::run(&arguments, trials)
    });
    println!("{}", closing_line(&conclusion));
    Ok(if conclusion.has_failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// The first round has the plain names.
fn round_name(name: &str, round: u32) -> String {
    if round == 0 {
        name.to_owned()
    } else {
        format!("{name}-{}", round + 1)
    }
}

fn any_seed() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    // Short enough to be typed again.
    now.as_secs() % 1_000_000_000
}

/// A trial that waits for its verdict.
fn trial(name: String, group: &str, verdict: Receiver<Verdict>) -> Trial {
    Trial::ignorable_test(name, move || match verdict.recv() {
        Ok(verdict) => verdict.completion(),
        Err(_) => Err("the run ended before it".into()),
    })
    .with_kind(group)
}

struct Planned<T> {
    name: String,
    seed: u64,
    test: T,
    verdict: Sender<Verdict>,
}

/// What there is to do behind the trials.
struct Plan {
    host: Vec<Planned<HostTest>>,
    guests: Vec<Planned<(&'static GuestTest, Under)>>,
    scenarios: Vec<Planned<&'static Scenario>>,
}

impl Plan {
    fn add(&mut self, test: &Test, name: String, seed: u64, verdict: Sender<Verdict>) {
        match &test.kind {
            Kind::Host(test) => self.host.push(Planned {
                name,
                seed,
                test: test.clone(),
                verdict,
            }),
            Kind::Guest(test, under) => self.guests.push(Planned {
                name,
                seed,
                test: (test, *under),
                verdict,
            }),
            Kind::Scenario(test) => self.scenarios.push(Planned {
                name,
                seed,
                test,
                verdict,
            }),
        }
    }

    fn run(self, options: &Options, workspace: &Workspace, extras: &[Extra], results: &Results) {
        let progress = Progress::new();
        for planned in self.host {
            progress.step(&planned.name);
            let begun = Instant::now();
            let fuzzing = Fuzzing {
                plain: options.fuzz_plain,
                seconds: options.fuzz_seconds,
                seed: planned.seed,
            };
            let result = workspace.run(&planned.test, &fuzzing);
            let seed = matches!(planned.test, HostTest::Fuzz(_)).then(|| fuzzing.seed());
            let verdict = Verdict::of_host(result, begun.elapsed(), seed, workspace.versions());
            progress.rest();
            deliver(&planned.name, verdict, &planned.verdict, results, None);
        }
        if !self.guests.is_empty() {
            run_guests(self.guests, options, results, &progress);
        }
        if !self.scenarios.is_empty() {
            run_scenarios(self.scenarios, options, extras, results, &progress);
        }
        progress.finish();
    }
}

/// The file first: whoever reads the verdict may look for it.
fn deliver(
    name: &str,
    verdict: Verdict,
    to: &Sender<Verdict>,
    results: &Results,
    lab: Option<&Environment>,
) {
    let verdict = match results.write(name, &verdict, lab) {
        Ok(()) => verdict,
        Err(error) => Verdict::failed(format!("{error:#}"), Duration::ZERO, None),
    };
    let _ = to.send(verdict);
}

fn run_guests(
    planned: Vec<Planned<(&'static GuestTest, Under)>>,
    options: &Options,
    results: &Results,
    progress: &Progress,
) {
    let with_kasan = planned.iter().any(|planned| planned.test.1 == Under::Kasan);
    let assets = match setup::guests(progress, with_kasan) {
        Ok(assets) => assets,
        Err(error) => {
            progress.rest();
            for planned in planned {
                let reason = format!("the guests cannot be prepared: {error:#}");
                let verdict = Verdict::failed(reason, Duration::ZERO, None);
                deliver(&planned.name, verdict, &planned.verdict, results, None);
            }
            return;
        }
    };
    let mut requests = Vec::new();
    thread::scope(|scope| {
        for planned in planned {
            let (test, under) = planned.test;
            let name = match under {
                Under::Stock => test.name.to_owned(),
                Under::Kasan => test.kasan_name().unwrap_or_default(),
            };
            let (send, receive) = mpsc::channel();
            requests.push(GuestRequest {
                test,
                under,
                trial: options.target.guest_trial(test, under, &name, planned.seed),
                cost: results.last_duration(&planned.name).unwrap_or(test.limit),
                verdict: send,
            });
            scope.spawn(move || {
                if let Ok(verdict) = receive.recv() {
                    let verdict = verdict.judged(test.expect);
                    deliver(&planned.name, verdict, &planned.verdict, results, None);
                }
            });
        }
        guests::run(&assets, progress, requests);
    });
}

fn run_scenarios(
    scenarios: Vec<Planned<&'static Scenario>>,
    options: &Options,
    extras: &[Extra],
    results: &Results,
    progress: &Progress,
) {
    let scenarios: Vec<_> = scenarios
        .into_iter()
        .map(|planned| (options.target.trial(planned.test, planned.seed), planned))
        .collect();
    let build = Build::of(scenarios.iter().map(|(trial, _)| trial.driver));
    let prepared = setup::run(progress, false, build)
        .and_then(|assets| Ok((Environment::new(&assets)?, assets)));
    let (environment, assets) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            progress.rest();
            for (_, planned) in scenarios {
                let reason = format!("the lab cannot be prepared: {error:#}");
                let verdict = Verdict::failed(reason, Duration::ZERO, None);
                deliver(&planned.name, verdict, &planned.verdict, results, None);
            }
            return;
        }
    };
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let labs = batch::labs(processors, &meminfo, scenarios.len());
    let mut requests = Vec::new();
    thread::scope(|scope| {
        for (trial, planned) in scenarios {
            let (send, receive) = mpsc::channel();
            let limit = scenarios::limit(planned.test, &trial);
            requests.push(Request {
                trial,
                limit,
                cost: results.last_duration(&planned.name).unwrap_or(limit),
                verdict: send,
                failed_boots: 0,
                lost_labs: 0,
                emulator_faults: Vec::new(),
            });
            let environment = &environment;
            scope.spawn(move || {
                if let Ok(verdict) = receive.recv() {
                    deliver(
                        &planned.name,
                        verdict.judged(planned.test.expect),
                        &planned.verdict,
                        results,
                        Some(environment),
                    );
                }
            });
        }
        Pool::new(&assets, extras, progress, labs, requests).run();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_have_names_of_their_own() {
        assert_eq!(round_name("a", 0), "a");
        assert_eq!(round_name("a", 1), "a-2");
    }
}
