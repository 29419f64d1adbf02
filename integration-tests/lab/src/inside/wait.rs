// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Waiting for a condition, never for a time.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition that has no event is looked at.
const EVERY: Duration = Duration::from_millis(50);

/// How often if the moment itself matters.
const SOON: Duration = Duration::from_millis(4);

/// Looks at `condition` until it gives a value; fails by `what` after `within`.
pub fn until<T>(
    what: &str,
    within: Duration,
    condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    poll(what, within, EVERY, condition)
}

/// The same for a condition that is soon over.
pub fn until_just_now<T>(
    what: &str,
    within: Duration,
    condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    poll(what, within, SOON, condition)
}

fn poll<T>(
    what: &str,
    within: Duration,
    every: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + within;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("not within {} s: {what}", within.as_secs_f32());
        }
        thread::sleep(every);
    }
}
