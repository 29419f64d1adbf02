// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Sees that no machine and no disk outlives this program.
//!
//! Three nets: guards that are dropped; a handler for the signals that ask a program to end; and
//! the kernel's parent-death signal for the ones that do not ask. Directories left by the last kind
//! are removed by the next start.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command};
use std::sync::mpsc::{self, Sender};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use nix::sys::prctl;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::{Builder, TempDir};

/// A private directory of this process; removed with everything in it.
pub type RunDir = TempDir;

#[derive(Default)]
struct Kept {
    children: BTreeSet<u32>,
    dirs: BTreeSet<PathBuf>,
}

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

type Request = (Command, Sender<io::Result<Child>>);

/// The parent-death signal comes when the *thread* that started the child ends. So one thread
/// that never ends starts them all.
static STARTER: LazyLock<Mutex<Sender<Request>>> = LazyLock::new(|| {
    let (send, requests) = mpsc::channel::<Request>();
    thread::spawn(move || {
        for (mut command, answer) in requests {
            let _ = answer.send(command.spawn());
        }
    });
    Mutex::new(send)
});

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Installs the signal handler.
pub fn watch_signals() -> Result<()> {
    ctrlc::set_handler(|| {
        let kept = lock(&KEPT);
        for child in &kept.children {
            kill_group(*child);
        }
        for dir in &kept.dirs {
            let _ = fs::remove_dir_all(dir);
        }
        eprintln!("lab: interrupted");
        // The lock is held to the end, so that nothing new is started.
        process::exit(130);
    })
    .context("cannot watch for signals")
}

/// Starts a process that is killed when this one ends, however it ends. It leads a group of its
/// own: what it starts can be killed with it.
pub fn spawn(mut command: Command) -> io::Result<Child> {
    command.process_group(0);
    let die_with_parent = || Ok(prctl::set_pdeathsig(Signal::SIGKILL)?);
    // SAFETY: prctl is async-signal-safe, and nothing is allocated.
    unsafe { command.pre_exec(die_with_parent) };
    let (send, answer) = mpsc::channel();
    let gone = |_| io::Error::other("the thread that starts processes is gone");
    let mut kept = lock(&KEPT);
    lock(&STARTER)
        .send((command, send))
        .map_err(|_| io::Error::other("no starter"))?;
    let child = answer.recv().map_err(gone)??;
    kept.children.insert(child.id());
    Ok(child)
}

/// Kills a child that has not been waited for, and what it has started.
pub fn kill_group(child: u32) {
    if let Ok(pid) = i32::try_from(child) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// The child has been waited for; its number may soon be another's.
pub fn forget(child: u32) {
    lock(&KEPT).children.remove(&child);
}

/// Makes a private directory in `runs`, after removing those of processes that are gone.
pub fn run_dir(runs: &Path) -> Result<RunDir> {
    sweep(runs, |pid| {
        Path::new("/proc").join(pid.to_string()).exists()
    })?;
    let dir = Builder::new()
        .prefix(&format!("lab-{}-", process::id()))
        .tempdir_in(runs)
        .with_context(|| format!("cannot make a directory in {}", runs.display()))?;
    lock(&KEPT).dirs.insert(dir.path().to_owned());
    Ok(dir)
}

fn sweep(runs: &Path, lives: impl Fn(u32) -> bool) -> Result<()> {
    for entry in fs::read_dir(runs).with_context(|| runs.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| {
            name.strip_prefix("lab-")?
                .split('-')
                .next()?
                .parse::<u32>()
                .ok()
        });
        if owner.is_some_and(|pid| !lives(pid)) {
            // Another process may be sweeping too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn only_directories_of_dead_processes_are_swept() {
        let runs = tempfile::tempdir().unwrap();
        for name in ["lab-1-a", "lab-2-b", "other"] {
            fs::create_dir(runs.path().join(name)).unwrap();
        }
        sweep(runs.path(), |pid| pid == 1).unwrap();
        assert!(runs.path().join("lab-1-a").exists());
        assert!(!runs.path().join("lab-2-b").exists());
        assert!(runs.path().join("other").exists());
    }

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let asked = thread::spawn(|| {
            let mut command = Command::new("cat");
            command.stdin(Stdio::piped()).stdout(Stdio::null());
            spawn(command).unwrap()
        });
        let mut child = asked.join().unwrap();
        // With its input closed `cat` ends by itself; killed by the thread's end it would not.
        drop(child.stdin.take());
        let status = child.wait().unwrap();
        forget(child.id());
        assert_eq!((status.code(), status.signal()), (Some(0), None));
    }
}
