// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! How much of the time a lab wanted a processor and did not get one: a neighbour on this machine
//! had it, or the machine's own host took it (steal). A measurement under such conditions says
//! nothing.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Steal in /proc/stat is counted in these.
const TICKS_PER_SECOND: f64 = 100.0;

/// A look at the counters.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    at: Instant,
    waited: Duration,
    stolen: f64,
}

impl Sample {
    /// Now, for the process `id`.
    pub fn of(id: u32) -> Self {
        Self {
            at: Instant::now(),
            waited: waited(id),
            stolen: stolen(&fs::read_to_string("/proc/stat").unwrap_or_default()),
        }
    }

    /// The share of the time from `before` until this one that was lost.
    pub fn lost_since(&self, before: &Self) -> f64 {
        let wall = self.at.duration_since(before.at).as_secs_f64();
        let waited = self.waited.saturating_sub(before.waited).as_secs_f64();
        let stolen = (self.stolen - before.stolen).max(0.0);
        if wall > 0.0 {
            (waited + stolen) / wall
        } else {
            0.0
        }
    }
}

/// The time that the process's threads were runnable and did not run (Documentation/scheduler/
/// sched-stats.rst, `/proc/PID/schedstat`).
fn waited(id: u32) -> Duration {
    let tasks = PathBuf::from(format!("/proc/{id}/task"));
    let mut sum = 0;
    for task in fs::read_dir(tasks).into_iter().flatten().flatten() {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        sum += run_delay(&text).unwrap_or(0);
    }
    Duration::from_nanos(sum)
}

fn run_delay(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().nth(1)?.parse().ok()
}

/// Seconds per processor, on average.
fn stolen(stat: &str) -> f64 {
    let processors = stat
        .lines()
        .filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "))
        .count()
        .max(1);
    let ticks: u32 = stat
        .lines()
        .find(|line| line.starts_with("cpu "))
        .and_then(|line| line.split_whitespace().nth(8))
        .and_then(|ticks| ticks.parse().ok())
        .unwrap_or(0);
    let processors = u32::try_from(processors).unwrap_or(1);
    f64::from(ticks) / TICKS_PER_SECOND / f64::from(processors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_number_is_what_was_waited_for() {
        assert_eq!(run_delay("5 70 3\n"), Some(70));
        assert_eq!(run_delay(""), None);
    }

    #[test]
    fn steal_is_shared_by_the_processors() {
        let stat = "cpu  1 2 3 4 5 6 7 400 0 0\ncpu0 0 0\ncpu1 0 0\nintr 5\n";
        assert!((stolen(stat) - 2.0).abs() < 1e-9);
        assert!(stolen("").abs() < 1e-9);
    }

    #[test]
    fn waiting_and_steal_add_up_to_a_share_of_the_time() {
        let before = Sample {
            at: Instant::now(),
            waited: Duration::from_millis(100),
            stolen: 1.0,
        };
        let after = Sample {
            at: before.at + Duration::from_secs(10),
            waited: Duration::from_millis(600),
            stolen: 1.5,
        };
        assert!((after.lost_since(&before) - 0.1).abs() < 1e-9);
        assert!(before.lost_since(&before).abs() < 1e-9);
    }
}
