// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What is left after a cut, and whether it is what was promised.

use std::fs;
use std::path::Path;

use anyhow::Result;
use guest_agent::verify::{Report, verify};
use serde::Serialize;

use crate::inside::cleanup::WORK;
use crate::inside::command::{ask, kernel_said};
use crate::inside::replay::cut::{Cut, Fate, Fates, blocks, cached};
use crate::inside::replay::image::Image;
use crate::inside::replay::log::{Entry, What};
use crate::inside::replay::mounted::Mounted;
use crate::inside::replay::{Acked, Log};

/// Builds disks as cuts have left them, going forward in the log.
pub struct Replay<'a> {
    log: &'a Log,
    durable: Image,
    done: usize,
}

impl<'a> Replay<'a> {
    /// At the log's start: a disk of `size` bytes, all zeros.
    pub fn new(log: &'a Log, size: u64) -> Result<Self> {
        Self::at(&Path::new(WORK).join("durable.img"), log, size)
    }

    fn at(path: &Path, log: &'a Log, size: u64) -> Result<Self> {
        let durable = Image::new(path, size)?;
        let done = 0;
        Ok(Self { log, durable, done })
    }

    /// The disk after `cut`, which is not before the last one.
    fn disk(&mut self, cut: &Cut, path: &Path) -> Result<Image> {
        while self.done < cut.at {
            self.apply(&self.log.entries[self.done], &self.durable, &Fate::Kept)?;
            self.done += 1;
        }
        let disk = self.durable.copy(path)?;
        let mut fates = Fates::new(cut);
        for index in cached(&self.log.entries, cut.at) {
            let entry = &self.log.entries[index];
            self.apply(entry, &disk, &fates.next(entry.at, entry.bytes))?;
        }
        Ok(disk)
    }

    fn apply(&self, entry: &Entry, disk: &Image, fate: &Fate) -> Result<()> {
        let whole = *fate == Fate::Kept;
        match (&entry.what, fate) {
            (_, Fate::Gone) | (What::Nothing | What::Mark(_), _) => Ok(()),
            (What::Discard, _) => disk.zero(entry.at, entry.bytes),
            (What::Write, _) if whole => disk.write(&self.log.data(entry)?, entry.at),
            (What::Write, fate) => {
                let data = self.log.data(entry)?;
                let mut rest = data.as_slice();
                for (index, place) in blocks(entry.at, entry.bytes).enumerate() {
                    let (block, after) = rest.split_at(usize::try_from(place.end - place.start)?);
                    rest = after;
                    if fate.keeps(index) {
                        disk.write(block, place.start)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Cuts the power, lets the filesystem on the disk recover, and holds the load's data against
    /// what was acked by then.
    pub fn judge(&mut self, cut: &Cut, subject: &Subject<'_>, tally: &mut Tally) -> Result<()> {
        let work = Path::new(WORK);
        let disk = self.disk(cut, &work.join("cut.img"))?;
        tally.cuts += 1;
        let places = subject.acked.places(&self.log.entries);
        let known = places.iter().rev().find(|(index, _)| *index < cut.at);
        let area = known.map(|(_, number)| subject.acked.area(*number));
        let mounted = match Mounted::new(disk.path(), "cut", subject.options) {
            Ok(mounted) => mounted,
            Err(error) => {
                tally.unmountable += 1;
                let kernel = kernel_said("loop")?;
                tally.says(
                    cut,
                    &format!("the backing filesystem does not recover: {error:#}; {kernel}"),
                );
                return Ok(());
            }
        };
        let file = mounted.at.join(subject.file);
        let inner = match subject.inside {
            Some(_) if file.exists() => match mounted_inside(cut, &file, tally)? {
                Some(inner) => Some(inner),
                None => return Ok(()),
            },
            _ => None,
        };
        if let Some(area) = area {
            let data = match (&inner, subject.inside) {
                (Some(inner), Some(inside)) => inner.mounted.at.join(inside),
                _ => file.clone(),
            };
            let repair = inner.as_ref().and_then(|inner| inner.repair.as_deref());
            tally.add(cut, &area, &data, repair)?;
        }
        if let Some(inner) = inner {
            drop(inner);
            let answer = ask("e2fsck", &["-f", "-n", &file.display().to_string()])?;
            if answer.code != 0 {
                tally.unclean += 1;
                tally.says(
                    cut,
                    &format!("fsck of the guest's filesystem: {}", answer.text),
                );
            }
        }
        Ok(())
    }
}

/// The guest's filesystem, mounted.
struct Inner {
    mounted: Mounted,
    /// What e2fsck said, if it was needed.
    repair: Option<String>,
}

/// Mounts the guest's filesystem. One that does not mount is repaired, as its user would do, and mounted
/// then: the driver has not ordered a commit after what it commits. What the repair has cost is counted apart: e2fsck
/// goes on without the blocks that the journal misses, and clears the files that need them. See docs/reliability.md.
fn mounted_inside(cut: &Cut, file: &Path, tally: &mut Tally) -> Result<Option<Inner>> {
    let mount = || Mounted::new(file, "cut-guest", "loop");
    let error = match mount() {
        Ok(mounted) => {
            let repair = None;
            return Ok(Some(Inner { mounted, repair }));
        }
        Err(error) => error,
    };
    // Why it does not mount, which mount(8) does not know.
    let kernel = kernel_said("EXT4-fs")?;
    let repair = ask("e2fsck", &["-f", "-y", &file.display().to_string()])?;
    let repaired = if repair.code == 1 { mount().ok() } else { None };
    match repaired {
        Some(_) => tally.repaired += 1,
        None => tally.unclean += 1,
    }
    let text = repair.text;
    tally.says(
        cut,
        &format!("the guest's filesystem: {error:#}; {kernel}; e2fsck: {text}"),
    );
    let repair = Some(text);
    Ok(repaired.map(|mounted| Inner { mounted, repair }))
}

/// Where a cut is in its log, to begin a line with.
fn at(cut: &Cut) -> String {
    let (at, share, seed) = (cut.at, cut.share, cut.seed);
    format!("cut at entry {at} ({share}/8 kept, seed {seed}): ")
}

/// Whose data is looked at after a cut.
pub struct Subject<'a> {
    /// What was acked when.
    pub acked: &'a Acked,
    /// The load's file (or the guest's disk) on the backing filesystem.
    pub file: &'a str,
    /// The load's directory on the guest's filesystem in `file`, if it has one.
    pub inside: Option<&'a str>,
    /// How the backing filesystem is mounted.
    pub options: &'a str,
}

/// What many cuts have come to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// Power cuts.
    pub cuts: u64,
    /// Acked blocks that were looked at, all cuts.
    pub acked: u64,
    /// Of those, the ones that hold neither what was acked nor anything later.
    pub lost: u64,
    /// Missing after the guest's filesystem had to be repaired: not counted as lost.
    pub lost_to_repair: u64,
    /// The first repair that cost any, and what e2fsck said.
    pub first_cost: Option<String>,
    /// Cuts after which the backing filesystem could not be mounted.
    pub unmountable: u64,
    /// Cuts after which the guest's filesystem could not be mounted or fsck found something.
    pub unclean: u64,
    /// Cuts after which the guest's filesystem mounted only once it was repaired.
    pub repaired: u64,
    /// The first thing that was wrong.
    pub first: Option<String>,
}

impl Tally {
    fn says(&mut self, cut: &Cut, text: &str) {
        self.first
            .get_or_insert_with(|| format!("{}{text}", at(cut)));
    }

    fn add(&mut self, cut: &Cut, area: &[u8], data: &Path, repair: Option<&str>) -> Result<()> {
        let acks = Path::new(WORK).join("cut-acks.img");
        fs::write(&acks, area)?;
        let gone = Path::new(WORK).join("nothing");
        // A file that is gone has lost all that it held.
        let data = if data.exists() {
            data
        } else {
            fs::write(&gone, [])?;
            &gone
        };
        self.count(cut, &verify(data, &acks, 0)?, repair);
        Ok(())
    }

    fn count(&mut self, cut: &Cut, report: &Report, repair: Option<&str>) {
        self.acked += report.acked;
        let (bad, acked) = (report.bad, report.acked);
        if bad == 0 {
            return;
        }
        let first = report.bad_blocks.first();
        let first = first.map_or("none is listed".to_owned(), |block| format!("{block:?}"));
        let text = format!("{bad} of {acked} acked blocks: {first}");
        match repair {
            None => {
                self.lost += bad;
                self.says(cut, &text);
            }
            Some(repair) => {
                self.lost_to_repair += bad;
                self.first_cost
                    .get_or_insert_with(|| format!("{}{text}; e2fsck: {repair}", at(cut)));
            }
        }
    }

    /// Everything that was promised was kept.
    pub fn holds(&self) -> bool {
        self.wrong().is_none()
    }

    /// What was not kept, the worst in front. A control is known by its words: a guest's filesystem that
    /// needed a repair, and nothing else, has words of its own.
    pub fn wrong(&self) -> Option<String> {
        let Self {
            cuts,
            acked,
            lost,
            unmountable,
            unclean,
            repaired,
            lost_to_repair,
            ..
        } = self;
        let what = match (lost, unmountable, unclean, repaired) {
            (0, 0, 0, 0) => return None,
            (0, 0, 0, _) => {
                format!(
                    "nothing else is wrong, but the guest's filesystem needed a repair {repaired} \
                     times, which cost {lost_to_repair} of {acked} acked blocks"
                )
            }
            (0, ..) => format!(
                "the backing filesystem did not recover {unmountable} times, the guest's {unclean} \
                 times, and {repaired} times it needed a repair"
            ),
            _ => format!("{lost} of {acked} acked blocks are lost"),
        };
        let first = self.first.as_deref().unwrap_or("nothing");
        Some(format!("{cuts} power cuts: {what}; the first: {first}"))
    }
}

#[cfg(test)]
mod tests {
    use guest_agent::verify::{BadBlock, Fault};

    use super::*;
    use crate::inside::replay::log::samples::Writer;

    const SECTORS: u64 = 64;

    const CUT: Cut = Cut {
        at: 1,
        share: 0,
        torn: 2,
        seed: 9,
    };

    /// The first byte of each of these sectors after a cut.
    fn after(log: &Log, cuts: &[(usize, u64)], sectors: &[usize]) -> Vec<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut replay = Replay::at(&path("durable"), log, SECTORS * 512).unwrap();
        let seen = cuts.iter().map(|&(at, share)| {
            let cut = Cut { at, share, ..CUT };
            let disk = replay.disk(&cut, &path("cut")).unwrap();
            let bytes = fs::read(disk.path()).unwrap();
            sectors.iter().map(|sector| bytes[sector * 512]).collect()
        });
        seen.collect()
    }

    #[test]
    fn a_loss_and_each_filesystem_that_needs_more_than_a_mount_count() {
        let good = || Tally {
            cuts: 50,
            acked: 100,
            ..Tally::default()
        };
        assert!(good().holds());
        let faults: [fn(&mut Tally); 4] = [
            |tally| tally.lost = 1,
            |tally| tally.unmountable = 1,
            |tally| tally.unclean = 1,
            |tally| tally.repaired = 1,
        ];
        let words = [
            "1 of 100 acked blocks are lost",
            "did not recover 1 times",
            "the guest's 1 times",
            "nothing else is wrong",
        ];
        for (fault, words) in faults.into_iter().zip(words) {
            let mut tally = good();
            fault(&mut tally);
            assert!(!tally.holds(), "{tally:?}");
            let said = tally.wrong().unwrap();
            assert!(said.contains(words), "{said}");
            // Only if it is the only thing.
            tally.repaired += 1;
            let said = tally.wrong().unwrap();
            assert_eq!(said.contains("nothing else"), tally.repaired == 2);
        }
    }

    #[test]
    fn what_a_repair_has_cost_is_counted_apart() {
        let block = BadBlock {
            block: 32,
            thread: 2,
            acked: Some(7),
            found: None,
            fault: Fault::Lost,
        };
        let report = Report {
            acked: 116,
            bad: 14,
            bad_blocks: vec![block],
            ..Report::default()
        };
        let mut tally = Tally::default();
        tally.count(&CUT, &report, Some("Fix? yes"));
        assert_eq!((tally.lost, tally.lost_to_repair), (0, 14));
        assert!(tally.first_cost.take().unwrap().ends_with("Fix? yes"));
        tally.count(&CUT, &report, None);
        assert_eq!((tally.lost, tally.acked), (14, 232));
    }

    #[test]
    fn a_loss_counts_whether_or_not_it_is_listed() {
        let report = Report {
            acked: 9,
            bad: 3,
            ..Report::default()
        };
        let mut tally = Tally::default();
        tally.count(&CUT, &report, None);
        assert_eq!((tally.lost, tally.holds()), (3, false));
    }

    #[test]
    fn a_cut_keeps_what_was_flushed_and_nothing_or_all_of_the_cache() {
        let mut writer = Writer::new(512);
        writer.fill(1, 1).flush().fill(1, 2).fill(2, 3).flush();
        let log = writer.fua(3, 4).fill(4, 5).discard(1, 1).flush().log();
        // 0 write, 1 flush, 2 write, 3 write, 4 flush, 5 fua, 6 write, 7 discard, 8 flush
        let cuts = [
            (0, 0),
            (2, 0),
            (2, 8),
            (3, 0),
            (5, 0),
            (5, 8),
            (6, 0),
            (6, 8),
            (9, 0),
        ];
        let wanted = [
            [0, 0, 0, 0],
            [1, 0, 0, 0],
            [2, 3, 0, 0],
            [2, 0, 0, 0],
            [2, 3, 0, 0],
            [2, 3, 4, 0],
            [2, 3, 4, 0],
            [0, 3, 4, 5],
            [0, 3, 4, 5],
        ];
        assert_eq!(after(&log, &cuts, &[1, 2, 3, 4]), wanted);
    }

    #[test]
    fn what_survived_one_cut_is_not_there_at_the_next() {
        let mut writer = Writer::new(512);
        let log = writer
            .fill(1, 1)
            .flush()
            .fill(2, 2)
            .fill(3, 3)
            .flush()
            .log();
        let seen = after(&log, &[(2, 8), (2, 0)], &[1, 2, 3]);
        assert_eq!(seen, [[1, 2, 3], [1, 0, 0]]);
    }

    #[test]
    fn a_torn_write_leaves_some_of_its_blocks() {
        let mut writer = Writer::new(512);
        let log = writer.write(1, &[7; 32 * 512], 0).flush().log();
        let dir = tempfile::tempdir().unwrap();
        let disk = Image::new(&dir.path().join("torn"), SECTORS * 512).unwrap();
        let replay = Replay::at(&dir.path().join("durable"), &log, SECTORS * 512).unwrap();
        let fate = Fate::Torn(vec![true, false, false, true, true]);
        replay.apply(&log.entries[0], &disk, &fate).unwrap();
        let bytes = fs::read(disk.path()).unwrap();
        let kept = |at: usize| (512..4096).contains(&at) || (12288..16896).contains(&at);
        for (at, byte) in bytes.iter().enumerate() {
            assert_eq!(*byte, if kept(at) { 7 } else { 0 }, "{at}");
        }
    }
}
