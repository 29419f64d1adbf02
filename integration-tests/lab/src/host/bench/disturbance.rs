// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! How much of the machine others had meanwhile: neighbours on it, or the machine's own host (steal).
//! A measurement under such conditions says nothing. What the lab's own threads take from each other is
//! part of what is measured.

use std::fs;
use std::time::Instant;

/// Times in /proc are counted in these.
const TICKS_PER_SECOND: f64 = 100.0;

/// A look at the counters, in seconds per processor.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    at: Instant,
    /// What the processors did for anyone.
    busy: f64,
    /// What they did for the lab.
    own: f64,
    stolen: f64,
}

impl Sample {
    /// Now, for the process `id`.
    pub fn of(id: u32) -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let process = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let machine = Machine::of(&stat);
        let seconds = |ticks: u32| f64::from(ticks) / TICKS_PER_SECOND / machine.processors;
        Self {
            at: Instant::now(),
            busy: seconds(machine.busy),
            own: seconds(ticks_of(&process)),
            stolen: seconds(machine.stolen),
        }
    }

    /// The share of the time from `before` until this one that was lost.
    pub fn lost_since(&self, before: &Self) -> f64 {
        let wall = self.at.duration_since(before.at).as_secs_f64();
        let others = (self.busy - before.busy) - (self.own - before.own);
        let stolen = self.stolen - before.stolen;
        if wall > 0.0 {
            (others.max(0.0) + stolen.max(0.0)) / wall
        } else {
            0.0
        }
    }
}

/// `/proc/stat` (Documentation/filesystems/proc.rst), in ticks of all processors together.
struct Machine {
    processors: f64,
    /// user, nice and system.
    busy: u32,
    stolen: u32,
}

impl Machine {
    fn of(stat: &str) -> Self {
        let processors = stat
            .lines()
            .filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "))
            .count()
            .max(1);
        let all = stat.lines().find(|line| line.starts_with("cpu "));
        let field = |number| number_at(all.unwrap_or_default(), number);
        Self {
            processors: f64::from(u32::try_from(processors).unwrap_or(1)),
            busy: field(1) + field(2) + field(3),
            stolen: field(8),
        }
    }
}

/// What a process has had of the processors, by its `/proc/PID/stat`: utime and stime. Its name, in
/// brackets, may hold anything.
fn ticks_of(stat: &str) -> u32 {
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    number_at(fields, 11) + number_at(fields, 12)
}

fn number_at(line: &str, field: usize) -> u32 {
    let word = line.split_whitespace().nth(field);
    word.and_then(|word| word.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::process::{self, Command};
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_fields_are_those_of_the_manual() {
        let machine = Machine::of("cpu  1 2 3 4 5 6 7 400 0 0\ncpu0 0 0\ncpu1 0 0\nintr 5\n");
        assert_eq!((machine.busy, machine.stolen), (6, 400));
        assert!((machine.processors - 2.0).abs() < 1e-9);
        assert_eq!(Machine::of("").stolen, 0);
        let process = "77 (a ) b) S 1 77 77 0 -1 4194304 9 0 0 0 250 30 0 0 20 0 1 0 100";
        assert_eq!(ticks_of(process), 280);
        assert_eq!(ticks_of(""), 0);
    }

    #[test]
    fn a_processor_that_is_kept_busy_by_others_shows() {
        let before = Sample::of(process::id());
        let mut neighbour = Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done"])
            .spawn()
            .unwrap();
        neighbour.wait().unwrap();
        let lost = Sample::of(process::id()).lost_since(&before);
        let stat = fs::read_to_string("/proc/stat").unwrap();
        assert!(lost * Machine::of(&stat).processors > 0.2, "{lost}");
    }

    #[test]
    fn others_and_steal_add_up_to_a_share_of_the_time() {
        let before = Sample {
            at: Instant::now(),
            busy: 100.0,
            own: 50.0,
            stolen: 1.0,
        };
        let after = Sample {
            at: before.at + Duration::from_secs(10),
            busy: 108.5,
            own: 58.0,
            stolen: 1.5,
        };
        assert!((after.lost_since(&before) - 0.1).abs() < 1e-9);
        assert!(before.lost_since(&before).abs() < 1e-9);
    }
}
