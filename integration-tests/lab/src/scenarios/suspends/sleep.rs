// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A guest that goes to sleep, and is woken from outside.

use std::mem;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use guest_agent::client::ClientError;
use guest_agent::wire::{Outcome, Step};

use crate::inside::driver::write;
use crate::inside::events;
use crate::inside::guest::Guest;
use crate::inside::wait;

/// How long it may take to fall asleep or to wake up: the freezer's 90 s, the driver's 10 s, and
/// an emulated machine's time for the rest.
const ASLEEP: Duration = Duration::from_secs(120);

/// How long a press of the power button is waited for: one that comes before the kernel listens
/// is lost.
const PRESSED: Duration = Duration::from_millis(500);

/// How often a guest that may have refused to sleep is asked.
const ASKED: Duration = Duration::from_secs(2);

/// The same where the question itself may call the suspend off: now and then, in case its answer
/// was lost on the line.
const ASKED_ON_THE_LINE: Duration = Duration::from_secs(30);

/// The device by which sleep and waking up are seen.
const SEEN_BY: &str = "data";

/// How the guest sleeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// s2idle: devices are frozen, the CPU idles.
    Idle,
    /// S3: the machine forgets its devices.
    Ram,
    /// Hibernation and back, without a power-off: an image is written and loaded.
    Disk,
}

impl Way {
    /// What is written to /sys/power/state.
    fn word(self) -> &'static str {
        match self {
            Self::Idle => "freeze",
            Self::Ram => "mem",
            Self::Disk => "disk",
        }
    }

    /// The order that begins it. Its answer comes after the resume.
    pub fn step(self) -> Step {
        Step::Write {
            path: "/sys/power/state".to_owned(),
            text: self.word().to_owned(),
        }
    }
}

/// How long the kernel waits for programs to freeze. Its own 20 s are less than an fsync on ext4
/// may take on a slow disk: several flushes, one after the other.
const FREEZER_MS: &str = "90000";

/// Gives the guest the time to sleep, and what wakes it from s2idle.
pub fn allow(guest: &mut Guest, way: Way) -> Result<()> {
    write(guest, "/sys/power/pm_freeze_timeout", FREEZER_MS)?;
    if way == Way::Idle && guest.machine().woken_by_serial() {
        write(guest, "/sys/class/tty/ttyS0/power/wakeup", "enabled")?;
    }
    Ok(())
}

/// A guest that sleeps.
pub struct Asleep {
    order: u64,
    way: Way,
}

/// What came of a suspend.
pub enum Attempt {
    /// The guest slept and was awake again before it was seen to sleep: something else woke it.
    Back,
    /// The guest sleeps.
    Asleep(Asleep),
    /// The suspend failed with this errno.
    Refused(i32),
}

/// Sends the guest to sleep and wakes it; fails if it did not sleep.
pub fn sleep_and_wake(guest: &mut Guest, way: Way) -> Result<()> {
    match attempt(guest, way)? {
        Attempt::Asleep(asleep) => wake(guest, &asleep),
        Attempt::Back => Ok(()),
        Attempt::Refused(errno) => bail!("the suspend failed with errno {errno}"),
    }
}

/// Sends the guest to sleep. A hibernation with test_resume comes back by itself: whether it
/// succeeded is seen by [`wake`].
pub fn attempt(guest: &mut Guest, way: Way) -> Result<Attempt> {
    let log = event_log(guest);
    let resets = count(log.as_deref(), "reset")?;
    let order = guest.start_order(way.step())?;
    if way == Way::Disk {
        return Ok(Attempt::Asleep(Asleep { order, way }));
    }
    let sleeps = |guest: &mut Guest| -> Result<bool> {
        guest.hear()?;
        Ok(match &log {
            // The driver resets its device when it freezes it.
            Some(log) => count(Some(log), "reset")? > resets,
            None => guest.machine().state()? == "suspended",
        })
    };
    let by_serial = guest.machine().woken_by_serial();
    let mut asked = Instant::now();
    wait::until("the guest to fall asleep", ASLEEP, || {
        let seen = wait::until("sleep", ASKED, || Ok(sleeps(guest)?.then_some(())));
        if seen.is_ok() {
            return Ok(Some(Attempt::Asleep(Asleep { order, way })));
        }
        let answer = if by_serial && asked.elapsed() < ASKED_ON_THE_LINE {
            guest.answered(order)
        } else {
            asked = Instant::now();
            guest.answer(order, Duration::ZERO)
        };
        match answer {
            Ok(None) => Ok(None),
            Ok(Some(Outcome::Done)) => Ok(Some(Attempt::Back)),
            Ok(Some(other)) => bail!("the guest answered {other:?} to the suspend"),
            Err(error) => match error.downcast_ref::<ClientError>() {
                Some(ClientError::Guest(failure)) => {
                    let errno = failure.errno.context("a failure without errno")?;
                    Ok(Some(Attempt::Refused(errno)))
                }
                _ => Err(error),
            },
        }
    })
}

/// Wakes the guest and waits until it says that it slept.
pub fn wake(guest: &mut Guest, asleep: &Asleep) -> Result<()> {
    let &Asleep { order, way } = asleep;
    if way != Way::Disk {
        let log = event_log(guest);
        let active = count(log.as_deref(), "activated")?;
        let by_serial = guest.machine().woken_by_serial();
        // A byte that comes while other devices still go to sleep calls the suspend off.
        let mut press = !by_serial;
        wait::until("the guest to wake up", ASLEEP, || {
            if mem::replace(&mut press, true) {
                guest.wake()?;
            }
            let woken = wait::until("its driver", PRESSED, || {
                guest.hear()?;
                let awake = match &log {
                    Some(log) => count(Some(log), "activated")? > active,
                    None => guest.machine().state()? != "suspended",
                };
                Ok(awake.then_some(()))
            });
            Ok(woken.ok())
        })?;
    }
    match guest.finish_order(order, ASLEEP) {
        Ok(Outcome::Done) => Ok(()),
        Ok(other) => bail!("the guest answered {other:?} after its sleep"),
        Err(error) => Err(error.context("the suspend failed")),
    }
}

fn event_log(guest: &mut Guest) -> Option<PathBuf> {
    guest.machine().events().map(Path::to_owned)
}

fn count(log: Option<&Path>, event: &str) -> Result<usize> {
    let Some(log) = log else { return Ok(0) };
    let all = events::read(log)?;
    Ok(events::of_device(&all, SEEN_BY, event).count())
}
