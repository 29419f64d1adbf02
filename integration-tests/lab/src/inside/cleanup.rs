// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Leaves nothing of a trial behind: no process, no mount, no mapped device.
//!
//! A trial cleans up by itself, in its guards' drops. This is the second net,
//! for one that hung, panicked or was killed.

use std::fs;
use std::path::Path;
use std::process::id;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::inside::command::run;

/// Everything a trial makes is below this folder; it is gone after the trial.
pub const WORK: &str = "/run/trial";

/// How long killed processes may take to go away.
const PATIENCE: Duration = Duration::from_secs(20);

/// After this time their disks are taken away from them.
const STUBBORN: Duration = Duration::from_secs(2);

/// Ends what a trial left, and removes what it made.
pub fn after_trial() -> Result<()> {
    kill_strangers()?;
    unmount_all()?;
    run("losetup", &["--detach-all"])?;
    remove_mappings()?;
    if Path::new(WORK).exists() {
        fs::remove_dir_all(WORK).with_context(|| format!("cannot remove {WORK}"))?;
    }
    Ok(())
}

/// Makes every mapped device fail its I/O at once and removes those that nobody
/// holds.
fn remove_mappings() -> Result<()> {
    run(
        "dmsetup",
        &["--noudevsync", "--noudevrules", "remove_all", "--force"],
    )
    .map(drop)
}

/// Kills every process of the lab but the first, this one and the kernel's own.
fn kill_strangers() -> Result<()> {
    let begun = Instant::now();
    loop {
        let strangers = strangers()?;
        if strangers.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            bail!("processes {strangers:?} do not die");
        }
        for pid in strangers {
            let _ = kill(pid, Signal::SIGKILL);
        }
        if begun.elapsed() > STUBBORN {
            // A killed process stays while its I/O does.
            remove_mappings()?;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn strangers() -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list /proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // "pid (name) state parent …"; kernel threads are process 2 and its children.
        let mut fields = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let (state, parent) = (fields.next(), fields.next());
        let of_kernel = pid == 2 || parent == Some("2");
        let ours = pid == 1 || u32::try_from(pid) == Ok(id());
        if !ours && !of_kernel && state != Some("Z") && state.is_some() {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

/// Unmounts what is mounted below [`WORK`], the deepest first.
fn unmount_all() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    let ours = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let mut ours: Vec<_> = ours.filter(|at| at.starts_with(WORK)).collect();
    ours.sort_by_key(|at| usize::MAX - at.len());
    for at in ours {
        umount2(at, MntFlags::empty())
            .or_else(|_| umount2(at, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH))
            .with_context(|| format!("cannot unmount {at}"))?;
    }
    Ok(())
}
