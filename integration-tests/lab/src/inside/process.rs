// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A process that does not outlive its guard.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::inside::trial::LOGS;
use crate::inside::wait;

/// How long a killed process may take to be gone. One that waits for a slow
/// disk stays until the disk has answered; the runner's cleanup sees to it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A started process; dropping it kills it.
pub struct Process {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Process {
    /// Starts `command`; what it prints goes to the log `name`.
    pub fn start(mut command: Command, name: &str) -> Result<Self> {
        let log = Path::new(LOGS).join(name);
        let open = || File::options().create(true).append(true).open(&log);
        let output = open().with_context(|| format!("cannot open {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self {
            child,
            log,
            name: name.to_owned(),
        })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("cannot ask for {}", self.name))
    }

    /// Waits for its own end.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait::until(&what, within, || self.ended())
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            self.child
                .kill()
                .with_context(|| format!("cannot kill {}", self.name))?;
            self.wait(PATIENCE)?;
        }
        Ok(())
    }

    /// What each of its threads does: name, state, CPU time in ticks, and where
    /// in the kernel it waits. For a log.
    pub fn threads(&self) -> String {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.child.id()));
        let mut text = String::new();
        for task in fs::read_dir(tasks).into_iter().flatten().flatten() {
            let read = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let (name, stat, stack) = (read("comm"), read("stat"), read("stack"));
            let fields: Vec<_> = stat
                .rsplit(')')
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .collect();
            let at = |index: usize| fields.get(index).copied().unwrap_or_default();
            let place = stack.lines().next().unwrap_or_default();
            let (state, user, system) = (at(0), at(11), at(12));
            text += &format!("  {} {state} {user}+{system} {place}\n", name.trim());
        }
        text
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("lab: {error:#}");
        }
    }
}
