// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Where the power is cut, and what of the disk's cache survives it.

use std::ops::Range;

use guest_agent::random::Sequence;

use crate::inside::replay::log::Entry;

/// What cuts make of the cache.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Odds {
    /// Decides what is left open here, and where the cuts are.
    pub seed: u64,
    /// Parts of eight: how much survives, one of these for each cut.
    pub shares: Vec<u64>,
    /// Of so many surviving writes of several blocks about one is torn.
    pub torn: u64,
}

impl Odds {
    /// From nothing to all of the cache.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            shares: vec![0, 1, 4, 7, 8],
            torn: 2,
        }
    }
}

/// The unit a disk writes as a whole. Half of it would be more than the filesystems promise to survive: ext4's
/// superblock has two sectors and btrfs's has eight, with one checksum that is looked at before any journal.
const BLOCK: u64 = 4096;

/// One power cut.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cut {
    /// All entries before this one are on the disk.
    pub at: usize,
    /// How many eighths of what was in the cache are, too.
    pub share: u64,
    /// Of so many of these with several blocks about one is torn.
    pub torn: u64,
    /// Decides which.
    pub seed: u64,
}

/// Where cuts may be in a log.
#[derive(Clone, Debug)]
pub struct Places {
    /// Marks that follow acks: right after one the disk holds the least for what was acked.
    pub marks: Vec<usize>,
    /// Entries after which something changed that is worth a cut of its own.
    pub turns: Vec<usize>,
    /// All cuts are among these.
    pub within: Range<usize>,
}

impl Places {
    /// From the first of these marks to the last; None if there is none.
    pub fn between(marks: Vec<usize>) -> Option<Self> {
        let (first, last) = (marks.first()?, marks.last()?);
        Some(Self {
            within: first + 1..last + 1,
            turns: Vec::new(),
            marks,
        })
    }

    /// True up to a few flushes after a turn.
    pub fn near_a_turn(&self, at: usize) -> bool {
        let near = |turn: &usize| (turn + 1..=turn + NEAR).contains(&at);
        self.turns.iter().any(near)
    }
}

/// A cut is near a turn up to so many entries after it.
const NEAR: usize = 16;

/// Chooses `count` cuts: three of four right after a mark, every eighth near a turn if there are any, the others anywhere.
/// In the log's order.
pub fn choose(places: &Places, count: u64, odds: &Odds) -> Vec<Cut> {
    let Places {
        marks,
        turns,
        within,
    } = places;
    let mut random = Sequence::new(odds.seed);
    let span = u64::try_from(within.len()).unwrap_or(0);
    let mut cuts: Vec<Cut> = (0..count)
        .map(|number| {
            let index = |below: u64| usize::try_from(below).unwrap_or(0);
            let at = if number % 4 < 3 && !marks.is_empty() {
                // One of each stretch of marks, so that the whole recording is met.
                let all = u64::try_from(marks.len()).unwrap_or(0);
                let (from, to) = (all * number / count, all * (number + 1) / count);
                let mark = from + random.below((to - from).max(1));
                marks[index(mark.min(all - 1))] + 1
            } else if number % 8 == 7 && !turns.is_empty() {
                let turn = turns[index(number / 8) % turns.len()];
                let near = turn + index(random.below(u64::try_from(NEAR).unwrap_or(1))) + 1;
                near.clamp(within.start, within.end - 1)
            } else {
                within.start + index(random.below(span))
            };
            let shares = u64::try_from(odds.shares.len()).unwrap_or(0);
            Cut {
                at,
                share: odds.shares[index(random.below(shares))],
                torn: odds.torn,
                seed: random.below(u64::MAX),
            }
        })
        .collect();
    cuts.sort_by_key(|cut| cut.at);
    cuts
}

/// The entries that may have been in the cache at a cut.
///
/// What follows in the log up to the next flush had ended before that flush began, so there was
/// a moment at which it was in the cache, and nothing after it. A write with FUA may have been
/// under way.
pub fn cached(entries: &[Entry], at: usize) -> Vec<usize> {
    let mut cached = Vec::new();
    for (index, entry) in entries.iter().enumerate().skip(at) {
        if entry.flush {
            break;
        }
        if entry.changes() {
            cached.push(index);
        }
        if entry.fua {
            break;
        }
    }
    cached
}

/// The parts of a write that lie in one block each.
pub fn blocks(at: u64, bytes: u64) -> impl Iterator<Item = Range<u64>> {
    let block = BLOCK;
    let (first, end) = (at / block, (at + bytes).div_ceil(block));
    (first..end).map(move |index| at.max(index * block)..(at + bytes).min((index + 1) * block))
}

/// What became of a write in the cache.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It is on the disk.
    Kept,
    /// It is gone.
    Gone,
    /// These of its blocks are on the disk.
    Torn(Vec<bool>),
}

impl Fate {
    /// True if this block of the write is on the disk.
    pub fn keeps(&self, block: usize) -> bool {
        match self {
            Self::Kept => true,
            Self::Gone => false,
            Self::Torn(blocks) => blocks.get(block).copied().unwrap_or(false),
        }
    }
}

/// Decides fates, one after the other.
pub struct Fates {
    random: Sequence,
    share: u64,
    torn: u64,
}

impl Fates {
    /// Those of a cut.
    pub fn new(cut: &Cut) -> Self {
        Self {
            random: Sequence::new(cut.seed),
            share: cut.share,
            torn: cut.torn,
        }
    }

    /// The next one, for a write of `bytes` to the place `at`.
    pub fn next(&mut self, at: u64, bytes: u64) -> Fate {
        if self.random.below(8) >= self.share {
            return Fate::Gone;
        }
        let blocks = blocks(at, bytes).count();
        if blocks < 2 || self.share == 8 || self.random.below(self.torn) > 0 {
            return Fate::Kept;
        }
        Fate::Torn((0..blocks).map(|_| self.random.below(2) == 0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inside::replay::log::samples::Writer;

    #[test]
    fn the_cache_holds_what_the_next_flush_waited_for_and_no_more() {
        let mut writer = Writer::new(512);
        writer.fill(0, 1).mark("a").fill(1, 1).flush().fill(2, 1);
        let log = writer.flush().fua(3, 1).fua(4, 1).fill(5, 1).log();
        // 0: write, 1: mark, 2: write, 3: flush, 4: write, 5: flush, 6: fua, 7: fua, 8: write
        let at = |at| cached(&log.entries, at);
        assert_eq!(at(0), [0, 2]);
        assert_eq!(at(1), [2]);
        assert_eq!(at(3), [0; 0]);
        assert_eq!(at(4), [4]);
        assert_eq!(at(6), [6], "the second one began after the first had ended");
        assert_eq!(at(8), [8]);
    }

    #[test]
    fn without_an_end_of_its_own_a_log_is_cut_up_to_its_last_mark() {
        let places = Places::between(vec![4, 9, 20]).unwrap();
        assert_eq!((places.within, places.turns), (5..21, vec![]));
        assert!(Places::between(Vec::new()).is_none());
    }

    #[test]
    fn cuts_follow_from_the_seed_and_meet_marks_and_other_places() {
        let marks: Vec<usize> = (0..100).map(|mark| 50 + 10 * mark).collect();
        let places = |turns: &[usize]| Places {
            marks: marks.clone(),
            turns: turns.to_vec(),
            within: 50..1050,
        };
        let chosen = |seed| choose(&places(&[]), 40, &Odds::new(seed));
        let cuts = chosen(3);
        assert_eq!(cuts, chosen(3));
        assert_ne!(cuts, chosen(4));
        assert!(cuts.is_sorted_by_key(|cut| cut.at));
        assert!(cuts.iter().all(|cut| (50..1050).contains(&cut.at)));
        let at_marks = cuts
            .iter()
            .filter(|cut| marks.contains(&(cut.at - 1)))
            .count();
        assert!((30..40).contains(&at_marks), "{at_marks}");
        let halves = cuts.iter().filter(|cut| cut.at < 550).count();
        assert!((10..30).contains(&halves), "{halves}");
        let turned = choose(&places(&[302, 1045]), 40, &Odds::new(3));
        assert!(turned.iter().all(|cut| (50..1050).contains(&cut.at)));
        let near = |cuts: &[Cut], from, end| {
            let near = cuts.iter().filter(|cut| (from..end).contains(&cut.at));
            near.count()
        };
        for (from, end, more) in [(303, 303 + NEAR, 3), (1046, 1050, 2)] {
            let (with, without) = (near(&turned, from, end), near(&cuts, from, end));
            assert_eq!(with, without + more, "{turned:?}");
        }
    }

    #[test]
    fn the_share_decides_how_much_survives() {
        let fates = |share| {
            let cut = Cut {
                at: 0,
                share,
                torn: 2,
                seed: 5,
            };
            let mut fates = Fates::new(&cut);
            let all: Vec<_> = (0..1000).map(|_| fates.next(0, 8192)).collect();
            let count = |what: fn(&Fate) -> bool| all.iter().filter(|one| what(one)).count();
            (
                count(|one| *one == Fate::Gone),
                count(|one| matches!(one, Fate::Torn(_))),
            )
        };
        assert_eq!(fates(0), (1000, 0));
        assert_eq!(fates(8), (0, 0));
        let (gone, torn) = fates(4);
        assert!((400..600).contains(&gone), "{gone}");
        assert!((200..300).contains(&torn), "{torn}");
    }

    #[test]
    fn a_block_is_never_torn() {
        let cut = Cut {
            at: 0,
            share: 7,
            torn: 6,
            seed: 1,
        };
        let mut fates = Fates::new(&cut);
        let mut torn = |at, bytes| {
            (0..1000).find_map(|_| match fates.next(at, bytes) {
                Fate::Torn(blocks) => Some(blocks.len()),
                _ => None,
            })
        };
        assert_eq!(torn(0, 4096), None);
        assert_eq!(torn(1024, 1024), None);
        assert_eq!(torn(0, 8192), Some(2));
        assert_eq!(torn(1024, 4096), Some(2));
    }

    #[test]
    fn a_write_is_split_where_the_disk_s_blocks_are() {
        let split = |at, bytes| blocks(at, bytes).collect::<Vec<_>>();
        assert_eq!(split(4096, 8192), [4096..8192, 8192..12288]);
        assert_eq!(split(512, 4096), [512..4096, 4096..4608]);
        assert_eq!(split(1024, 1024).first(), Some(&(1024..2048)));
        assert_eq!(split(0, 0), [0..0; 0]);
    }
}
