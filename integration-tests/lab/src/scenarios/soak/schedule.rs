// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a soak does: drawn from a seed, before anything is done.

use std::fmt;

use guest_agent::hostile::Case;
use guest_agent::random::Sequence;

/// Acts in one guest's life.
const ACTS: u64 = 12;
const COSTS_MS: [u32; 4] = [0, 5, 50, 300];
const THREADS: [u32; 5] = [1, 2, 4, 8, 16];

/// A guest, from its start to its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Life {
    /// In files on a mounted ext4, else on the raw device.
    pub in_files: bool,
    /// The load's threads.
    pub threads: u32,
    /// What is done to it.
    pub acts: Vec<Act>,
    /// How it ends.
    pub end: End,
}

/// How a life ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The disk takes no write for a while.
    DiskFails,
    /// The load stops, the machine is shut down.
    InOrder,
    /// The backing filesystem turns itself read-only.
    ReadOnly,
}

/// One thing that is done to a guest under load.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    /// A flush of the disk costs this much from now on.
    FlushCost(u32),
    /// Pause and resume.
    Pause,
    /// Pause, snapshot, resume.
    Snapshot,
    /// Pause, snapshot, kill, restore in a new process, resume.
    Restore,
    /// The disk hangs, a pause times out, the disk goes on.
    Hang,
    /// The guest sleeps (s2idle) and is woken.
    Suspend,
    /// The load stops, the driver is taken off the device and put back, the load starts.
    Rebind,
    /// The same with a bad ring in between: its number among the cases.
    Hostile(usize),
}

impl Life {
    /// The life `number` of the soak with this seed.
    pub fn drawn(seed: u64, number: u64) -> Self {
        let mut random = Sequence::new(seed.wrapping_add(number.wrapping_mul(0x0100_0000_01b3)));
        // The first numbers of neighbouring seeds are alike.
        for _ in 0..8 {
            random.below(2);
        }
        let in_files = random.below(2) == 1;
        let threads = one_of(&mut random, &THREADS);
        let acts = (0..ACTS).map(|_| Act::drawn(&mut random, in_files));
        Self {
            in_files,
            threads,
            acts: acts.collect(),
            end: match random.below(6) {
                0 => End::DiskFails,
                1 => End::ReadOnly,
                _ => End::InOrder,
            },
        }
    }
}

impl Act {
    fn drawn(random: &mut Sequence, in_files: bool) -> Self {
        let most = usize::MAX;
        match random.below(9) {
            0 | 1 => Self::FlushCost(one_of(random, &COSTS_MS)),
            2 => Self::Pause,
            3 => Self::Snapshot,
            4 | 5 => Self::Restore,
            6 => Self::Hang,
            7 => Self::Suspend,
            // A mounted filesystem holds its device.
            _ if in_files => Self::Snapshot,
            _ if random.below(2) == 0 => Self::Rebind,
            _ => Self::Hostile(
                usize::try_from(random.below(u64::try_from(Case::ALL.len()).unwrap_or(1)))
                    .unwrap_or(most),
            ),
        }
    }
}

fn one_of<T: Copy>(random: &mut Sequence, of: &[T]) -> T {
    let index = random.below(u64::try_from(of.len()).unwrap_or(1));
    of[usize::try_from(index).unwrap_or(0)]
}

impl fmt::Display for Life {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.in_files { "ext4" } else { "raw" };
        let end = match self.end {
            End::DiskFails => "with a failing disk",
            End::InOrder => "in order",
            End::ReadOnly => "with a read-only backing filesystem",
        };
        write!(
            formatter,
            "{} threads, {kind}, {:?}, ends {end}",
            self.threads, self.acts
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::mem::discriminant;

    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_schedule_and_another_seed_another_one() {
        let lives = |seed| (0..5).map(|n| Life::drawn(seed, n)).collect::<Vec<_>>();
        assert_eq!(lives(7), lives(7));
        assert_ne!(lives(7), lives(8));
        assert_ne!(lives(7)[0], lives(7)[1]);
    }

    #[test]
    fn everything_is_drawn_sooner_or_later() {
        let lives: Vec<_> = (0..200).map(|n| Life::drawn(1, n)).collect();
        let acts: HashSet<_> = lives
            .iter()
            .flat_map(|life| &life.acts)
            .map(discriminant)
            .collect();
        assert_eq!(acts.len(), 8, "an act never comes");
        for end in [End::DiskFails, End::InOrder, End::ReadOnly] {
            for in_files in [false, true] {
                let there = |life: &&Life| life.in_files == in_files && life.end == end;
                assert!(lives.iter().any(|life| there(&life)));
            }
        }
    }

    #[test]
    fn a_mounted_device_is_not_taken_away() {
        let lives = (0..200)
            .map(|n| Life::drawn(1, n))
            .filter(|life| life.in_files);
        let taken = |act: &Act| matches!(act, Act::Rebind | Act::Hostile(_));
        assert!(!lives.flat_map(|life| life.acts).any(|act| taken(&act)));
    }
}
