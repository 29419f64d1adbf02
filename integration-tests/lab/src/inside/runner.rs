// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The runner: reads the job and works through it, one child process at a time.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::utsname::uname;

use crate::inside::cleanup;
use crate::inside::records::Port;
use crate::inside::trial::{self, Said};
use crate::job::{ALIVE_EVERY, Job, Outcome, Record, SHARE, Trial, TrialResult, Work};
use crate::scenarios;

/// Works through `/lab/job.json`.
pub fn run() -> ExitCode {
    let mut port = match Port::open() {
        Ok(port) => port,
        Err(error) => {
            eprintln!("lab: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = work(&mut port) {
        let text = format!("{error:#}");
        eprintln!("lab: {text}");
        let _ = port.write(&Record::Broken { text });
        return ExitCode::SUCCESS;
    }
    match port.write(&Record::Done) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The job on the share image.
pub fn job() -> Result<Job> {
    let path = Path::new(SHARE).join("job.json");
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no job", path.display()))
}

fn work(port: &mut Port) -> Result<()> {
    let job = job()?;
    let kernel = uname()?.release().to_string_lossy().into_owned();
    port.write(&Record::Booted {
        kernel,
        uptime_ms: uptime_ms(),
    })?;
    match job.work {
        Work::Exec { command } => exec(port, &command),
        Work::Trials { trials } => {
            for (index, trial) in trials.into_iter().enumerate() {
                port.write(&Record::Started { trial: index })?;
                let result = Box::new(one_trial(port, index, trial)?);
                port.write(&Record::Finished {
                    result,
                    trial: index,
                })?;
            }
            Ok(())
        }
    }
}

fn uptime_ms() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let first = text.split(' ').next().unwrap_or_default();
    first
        .replace('.', "")
        .parse::<u64>()
        .map_or(0, |hundredths| hundredths * 10)
}

/// Runs one command and passes on what it prints as it prints it.
fn exec(port: &mut Port, command: &[String]) -> Result<()> {
    let (program, arguments) = command.split_first().context("the command is empty")?;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            let text = format!("lab: cannot run `{program}`: {error}\n");
            port.write(&Record::Output { error: true, text })?;
            // What a shell answers for a command it can't find.
            return port.write(&Record::Exited { code: 127 });
        }
    };
    let (send, receive) = mpsc::channel();
    if let Some(pipe) = child.stdout.take() {
        pump(pipe, false, send.clone());
    }
    if let Some(pipe) = child.stderr.take() {
        pump(pipe, true, send);
    }
    for (error, text) in receive {
        port.write(&Record::Output { error, text })?;
    }
    let status = child.wait().context("cannot wait for the command")?;
    port.write(&Record::Exited { code: code(status) })
}

fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn pump(mut pipe: impl Read + Send + 'static, error: bool, send: Sender<(bool, String)>) {
    thread::spawn(move || {
        let mut buffer = [0; 16 << 10];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            if send.send((error, text)).is_err() {
                return;
            }
        }
    });
}

/// Runs one trial in its own process, bounds its time and cleans up behind it.
fn one_trial(port: &mut Port, index: usize, trial: Trial) -> Result<TrialResult> {
    let begun = Instant::now();
    let mut result = TrialResult {
        duration_ms: 0,
        logs: Vec::new(),
        measurements: Default::default(),
        outcome: Outcome::Failed {
            reason: "the trial's process said nothing".to_owned(),
        },
        trial,
        vmm_version: None,
    };
    let Some(scenario) = scenarios::find(&result.trial.scenario) else {
        let name = &result.trial.scenario;
        result.outcome = Outcome::Failed {
            reason: format!("no scenario is named `{name}`"),
        };
        return Ok(result);
    };

    let mut child = Command::new(format!("{SHARE}/bin/lab"))
        .args(["inside", "trial", &index.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("cannot start a trial's process")?;
    let lines = lines_of(&mut child);
    let limit = scenarios::limit(scenario, &result.trial);
    let until = begun + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left.min(ALIVE_EVERY)) {
            Ok(Said::Step(text)) => port.write(&Record::Progress { text, trial: index })?,
            Ok(Said::Measured(name, value)) => {
                result.measurements.insert(name, value);
            }
            Ok(Said::VmmVersion(version)) => result.vmm_version = Some(version),
            Ok(Said::Ended(outcome)) => {
                result.outcome = outcome;
                break;
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() < until => {
                port.write(&Record::Alive)?;
            }
            Err(RecvTimeoutError::Timeout) => {
                let reason = format!("not over after its limit of {} s", limit.as_secs());
                result.outcome = Outcome::Failed { reason };
                break;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // It has said its last word; its guards have killed what it started.
    end(&mut child, Duration::from_secs(10));
    if !matches!(result.outcome, Outcome::Passed) {
        result.logs = trial::logs();
    }
    let left = cleanup::after_trial();
    if let (Err(error), Outcome::Passed) = (left, &result.outcome) {
        let reason = format!("cannot clean up after the trial: {error:#}");
        result.outcome = Outcome::Failed { reason };
    }
    result.duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(result)
}

fn lines_of(child: &mut Child) -> mpsc::Receiver<Said> {
    let (send, receive) = mpsc::channel();
    if let Some(pipe) = child.stdout.take() {
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let Ok(said) = serde_json::from_str(&line) else {
                    eprintln!("{line}");
                    continue;
                };
                if send.send(said).is_err() {
                    return;
                }
            }
        });
    }
    receive
}

/// Waits for a trial's process to end by itself, then ends it.
fn end(child: &mut Child, patience: Duration) {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
}
