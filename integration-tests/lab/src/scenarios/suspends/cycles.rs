// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Suspend and resume with flushes in flight: nobody sees an error, and nobody hangs.

use anyhow::{Result, bail, ensure};

use crate::inside::context::Context;
use crate::inside::driver::Flusher;
use crate::job::Driver;
use crate::scenarios::driver::busy::Busy;
use crate::scenarios::suspends::sleep::{Attempt, Way, attempt, sleep_and_wake, wake};

/// Suspends of each kind, `--set cycles=N`.
const CYCLES: u64 = 5;
/// Suspends with the slowest disk, each half a minute; `--set slow_cycles=N`.
const SLOW_CYCLES: u64 = 1;
/// What a flush of the disk takes.
pub const COST_MS: u32 = 50;
/// The same, so slow that a freeze waits for seconds.
const SLOW_MS: u32 = 3_000;
/// The disk for a freeze that gives up, and when it does.
const STUCK_MS: u32 = 2_000;
const GIVE_UP_MS: u32 = 100;
/// The driver's own value.
const FREEZE_TIMEOUT_MS: u32 = 10_000;

const EBUSY: i32 = 16;

/// `suspend-idle`.
pub fn idle(context: &mut Context) -> Result<()> {
    let cycles = context.number("cycles", CYCLES)?;
    let slow = context.number("slow_cycles", cycles.min(SLOW_CYCLES))?;
    let phases = [(COST_MS, cycles), (0, cycles), (SLOW_MS, slow)];
    // The kernel's own driver hangs for minutes on a disk that slow; it fails before.
    let phases = match context.trial.driver {
        Driver::C => &phases[..1],
        Driver::Rust => &phases[..],
    };
    run(context, Way::Idle, phases)
}

/// `suspend-ram`.
pub fn ram(context: &mut Context) -> Result<()> {
    let cycles = context.number("cycles", CYCLES)?;
    run(context, Way::Ram, &[(COST_MS, cycles)])
}

/// `suspend-disk`.
pub fn disk(context: &mut Context) -> Result<()> {
    let cycles = context.number("cycles", CYCLES)?;
    run(context, Way::Disk, &[(COST_MS, cycles)])
}

fn run(context: &mut Context, way: Way, phases: &[(u32, u64)]) -> Result<()> {
    let mut busy = Busy::start(context, way)?;
    let mut suspends = 0;
    for &(cost, cycles) in phases {
        busy.disk(cost)?;
        let counted = busy.freezes()?;
        for cycle in 1..=cycles {
            context.step(&format!(
                "flush cost {cost} ms: suspend {cycle} of {cycles}"
            ));
            let done = Flusher::done(&mut busy.guest)?;
            let before = busy.freezes()?;
            sleep_and_wake(&mut busy.guest, way)?;
            busy.goes_on(cost, done)?;
            if cost > 0 {
                busy.met_a_flush(before)?;
            }
        }
        suspends += cycles;
        let met = busy.freezes()? - counted;
        context.measure(&format!("freezes_at_{cost}_ms"), met);
        if context.trial.driver == Driver::Rust && cycles > 0 {
            // Without a cost a flush may just have ended: not every freeze meets one.
            ensure!(
                met.begun == cycles && met.in_flight > 0 && met.parked > 0,
                "the run does not count: of {cycles} suspends with a flush cost of {cost} ms \
                 the driver counts {met:?}"
            );
        }
    }
    context.measure("suspends", suspends);
    busy.finish(context)
}

/// `suspend-called-off`.
pub fn called_off(context: &mut Context) -> Result<()> {
    let cycles = context.number("cycles", CYCLES)?;
    let mut busy = Busy::start(context, Way::Idle)?;
    // The control: it does not give up.
    busy.freeze_timeout(if context.is_control() {
        FREEZE_TIMEOUT_MS
    } else {
        GIVE_UP_MS
    })?;
    busy.disk(STUCK_MS)?;
    let mut called_off = 0;
    for cycle in 1..=cycles {
        context.step(&format!(
            "a suspend that is called off: {cycle} of {cycles}"
        ));
        let done = Flusher::done(&mut busy.guest)?;
        let before = busy.freezes()?;
        match attempt(&mut busy.guest, Way::Idle)? {
            Attempt::Refused(EBUSY) => called_off += 1,
            Attempt::Refused(errno) => bail!("the suspend failed with errno {errno}"),
            // The flush was just about to end.
            Attempt::Back => {}
            Attempt::Asleep(asleep) => wake(&mut busy.guest, &asleep)?,
        }
        busy.device.is(&mut busy.guest, "live")?;
        busy.goes_on(STUCK_MS, done)?;
        busy.met_a_flush(before)?;
    }
    let met = busy.freezes()?;
    context.measure("freezes", met);
    ensure!(
        met.called_off == called_off,
        "{called_off} suspends have failed, but the driver has called off {}",
        met.called_off
    );
    ensure!(
        called_off > 0,
        "the run does not count: no suspend was called off"
    );
    context.step("a suspend that has the time");
    busy.freeze_timeout(FREEZE_TIMEOUT_MS)?;
    let done = Flusher::done(&mut busy.guest)?;
    let before = busy.freezes()?;
    sleep_and_wake(&mut busy.guest, Way::Idle)?;
    busy.goes_on(STUCK_MS, done)?;
    busy.met_a_flush(before)?;
    context.measure("suspends_called_off", called_off);
    busy.finish(context)
}
