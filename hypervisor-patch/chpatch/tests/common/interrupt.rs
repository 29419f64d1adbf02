// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Runs that are stopped at one of the points at which something on disk changes:
//! by an error, and by the death of the process.

use std::env;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};

use chpatch::error::Error;
use chpatch::transaction::Watch;

const SIGABRT: i32 = 6;

/// The points of an undisturbed run.
pub fn points<R>(run: impl FnOnce(Watch<'_>) -> Result<R, Error>) -> Vec<String> {
    let mut points = Vec::new();
    run(&mut |point| {
        points.push(point.to_owned());
        Ok(())
    })
    .expect("an undisturbed run");
    points
}

/// An error that names its point.
pub fn injected(point: &str) -> Error {
    Error::Io {
        action: point.to_owned(),
        source: io::Error::other("injected"),
    }
}

/// Stops a run at its point number `at`, by an error.
pub fn fail_at(at: usize) -> impl FnMut(&str) -> Result<(), Error> {
    stop_at(at, |point| Err(injected(point)))
}

fn stop_at<F>(at: usize, stop: F) -> impl FnMut(&str) -> Result<(), Error>
where
    F: Fn(&str) -> Result<(), Error>,
{
    let mut count = 0;
    move |point| {
        count += 1;
        if count == at + 1 {
            return stop(point);
        }
        Ok(())
    }
}

/// Has this test program's `killed_process` run as a process that gets `variables`
/// and dies at point number `at` of `command`.
pub fn kill(command: &str, at: usize, variables: &[(&str, &Path)]) {
    let status = Command::new(env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "killed_process"])
        .env("CHPATCH_COMMAND", command)
        .env("CHPATCH_POINT", at.to_string())
        .envs(variables.iter().copied())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("this program runs");
    assert_eq!(
        status.signal(),
        Some(SIGABRT),
        "{command} was not killed at point {at}"
    );
}

/// In `killed_process`: what [`kill`] has set.
pub fn variable(name: &str) -> String {
    env::var(name).expect("set by the test that starts this")
}

/// In `killed_process`: ends it at the point that [`kill`] has set.
pub fn die() -> impl FnMut(&str) -> Result<(), Error> {
    let at = variable("CHPATCH_POINT").parse().expect("a number");
    stop_at(at, |_| process::abort())
}

/// A copy of a folder with repository, links and permissions.
pub fn copy(from: &Path, to: &Path) -> PathBuf {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.expect("cp runs").success());
    to.to_owned()
}
