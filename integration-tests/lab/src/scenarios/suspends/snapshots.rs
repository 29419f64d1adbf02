// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Suspends of the guest and snapshots of its VM, one after the other and one in the other.

use std::fs;

use anyhow::{Result, bail, ensure};

use crate::inside::context::Context;
use crate::inside::driver::Flusher;
use crate::inside::machine::{Capability, Restore};
use crate::scenarios::driver::busy::Busy;
use crate::scenarios::suspends::cycles::COST_MS;
use crate::scenarios::suspends::sleep::{Attempt, Way, attempt, sleep_and_wake, wake};

/// Rounds, each with two suspends and two snapshots; `--set cycles=N`.
const CYCLES: u64 = 2;

/// `suspend-snapshots`.
pub fn run(context: &mut Context) -> Result<()> {
    context.needs(&[Capability::Snapshot])?;
    let cycles = context.number("cycles", CYCLES)?;
    let mut busy = Busy::start(context, Way::Idle)?;
    busy.disk(COST_MS)?;
    for cycle in 1..=cycles {
        context.step(&format!("suspend: {cycle} of {cycles}"));
        let done = Flusher::done(&mut busy.guest)?;
        let before = busy.freezes()?;
        sleep_and_wake(&mut busy.guest, Way::Idle)?;
        busy.goes_on(COST_MS, done)?;
        busy.met_a_flush(before)?;

        context.step(&format!("live snapshot and restore: {cycle} of {cycles}"));
        let done = Flusher::done(&mut busy.guest)?;
        replace(context, &mut busy)?;
        busy.goes_on(COST_MS, done)?;

        context.step(&format!("snapshot and restore asleep: {cycle} of {cycles}"));
        let done = Flusher::done(&mut busy.guest)?;
        let before = busy.freezes()?;
        match attempt(&mut busy.guest, Way::Idle)? {
            Attempt::Asleep(asleep) => {
                replace(context, &mut busy)?;
                wake(&mut busy.guest, &asleep)?;
            }
            Attempt::Back => bail!("the run does not count: the guest woke up too soon"),
            Attempt::Refused(errno) => bail!("the suspend failed with errno {errno}"),
        }
        busy.goes_on(COST_MS, done)?;
        busy.met_a_flush(before)?;
    }
    let met = busy.freezes()?;
    context.measure("freezes", met);
    context.measure("suspends", 2 * cycles);
    context.measure("snapshots_restored", 2 * cycles);
    ensure!(
        met.begun == 2 * cycles && met.in_flight > 0 && met.parked > 0,
        "the run does not count: of {} suspends the driver counts {met:?}",
        2 * cycles
    );
    busy.finish(context)
}

/// Snapshot, kill, and go on in a new process.
fn replace(context: &Context, busy: &mut Busy) -> Result<()> {
    let folder = context.snapshot_folder("snapshot")?;
    busy.guest.pause()?;
    busy.guest.snapshot(&folder)?;
    busy.guest.kill()?;
    busy.guest.restore(&Restore {
        allow_stale: false,
        from: folder.clone(),
    })?;
    busy.guest.resume()?;
    Ok(fs::remove_dir_all(folder)?)
}
