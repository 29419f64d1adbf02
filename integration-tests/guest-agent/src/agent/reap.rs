// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Ends the zombies of processes whose parent died, as process 1 must.
//!
//! Children that the agent started itself are left to who started them: the reaper looks
//! first (`WNOWAIT`) and takes only what nobody owns.

use std::collections::HashSet;
use std::io;
use std::process::{Child, Command};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;

#[derive(Default)]
struct Owned {
    pids: HashSet<i32>,
    /// Counts changes, so that the reaper misses none.
    changes: u64,
}

static OWNED: Mutex<Option<Owned>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();

fn owned() -> MutexGuard<'static, Option<Owned>> {
    OWNED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn change(owned: &mut Owned) {
    owned.changes += 1;
    CHANGED.notify_all();
}

/// Starts the reaper's thread.
pub fn start() -> io::Result<()> {
    thread::Builder::new()
        .name("reaper".to_owned())
        .spawn(reap)
        .map(drop)
}

/// Starts a program whose end the caller waits for, with [`disown`] afterwards.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    // Under the lock: a child that fails to execute is waited for within `spawn`.
    let mut guard = owned();
    let owned = guard.get_or_insert_default();
    let child = command.spawn();
    if let Ok(child) = &child
        && let Ok(pid) = i32::try_from(child.id())
    {
        owned.pids.insert(pid);
    }
    change(owned);
    child
}

/// Gives a child up: it was waited for, or nobody will.
pub fn disown(child: &Child) {
    let mut guard = owned();
    let owned = guard.get_or_insert_default();
    if let Ok(pid) = i32::try_from(child.id()) {
        owned.pids.remove(&pid);
    }
    change(owned);
}

fn reap() {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    loop {
        let seen = owned().get_or_insert_default().changes;
        let found = waitid(Id::All, look).map(|status| status.pid());
        let mut guard = owned();
        let state = guard.get_or_insert_default();
        match found {
            Ok(Some(pid)) if !state.pids.contains(&pid.as_raw()) => {
                // It may be gone already, see `spawn`.
                let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
                continue;
            }
            // Its owner was woken by the same end and takes it.
            Ok(_) | Err(Errno::ECHILD) => {}
            Err(_) => continue,
        }
        while guard.get_or_insert_default().changes == seen {
            guard = CHANGED.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A process id as a signal's target: all of its group.
pub fn group(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().map(Pid::from_raw)
}
