// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The scenarios: each one a function with a name.
//!
//! A scenario says in `control` which defect makes it fail. One that can't fail
//! is not a test.

use std::time::Duration;

use anyhow::Result;

use crate::inside::context::Context;
use crate::job::{Driver, VmmKind};

mod cuts;
mod cuts_schedule;
mod cuts_sync_calls;
mod demo;
mod discard_writes;
mod error_latch;
mod hostile_guest;
mod pause_slow_disk;
mod sanity;
mod snapshot_under_load;
mod stale_file;
mod support;
mod two_devices;

/// One scenario.
pub struct Scenario {
    /// The defect that makes it fail.
    pub control: &'static str,
    /// How a sound system lets it end.
    pub expect: Expect,
    /// The groups it belongs to (`lab`, `demo`, …), for filtering.
    pub groups: &'static [&'static str],
    /// The most time one trial of it may take.
    pub limit: Duration,
    /// Its name, as the command line has it.
    pub name: &'static str,
    /// Its code.
    pub run: fn(&mut Context) -> Result<()>,
    /// What it is told, as by `--set NAME=VALUE`; the command line goes before it.
    pub settings: &'static [(&'static str, &'static str)],
    /// What it shows, one line.
    pub summary: &'static str,
    /// What it runs with unless the command line says otherwise.
    pub usual: Usual,
}

/// How a scenario has to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expect {
    /// All that was asked for was seen.
    Pass,
    /// It is a negative control: it fails, and its reason has all of these texts.
    Failure(&'static [&'static str]),
}

/// The parts under test a scenario runs with when the user does not choose. They are spread so
/// that the default run meets all kernels, drivers and VMMs.
#[derive(Clone, Copy, Debug)]
pub struct Usual {
    /// The guest's driver.
    pub driver: Driver,
    /// The guest's kernel series.
    pub kernel: &'static str,
    /// The VMM; one that needs no path.
    pub vmm: VmmKind,
}

/// Ours above, the kernel's own below.
const USUAL: Usual = Usual {
    driver: Driver::C,
    kernel: "7.3",
    vmm: VmmKind::Vmm,
};

/// Those of the default run.
const LAB: &[&str] = &["lab"];

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// Every scenario, in the order a reader meets them.
pub const ALL: &[Scenario] = &[
    Scenario {
        control: "a device whose flush fails, or a guest kick that does: mkfs_rc is not 0",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "sanity-ext4",
        run: sanity::ext4,
        settings: &[],
        summary: "mkfs.ext4, mount, fsync, umount, fsck, and the files read from the host",
        usual: USUAL,
    },
    Scenario {
        control: "as sanity-ext4; a mount that falls back to the page cache is refused",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "sanity-ext4-dax",
        run: sanity::ext4_dax,
        settings: &[],
        summary: "the same with dax=always and stores through a mapping",
        usual: USUAL,
    },
    Scenario {
        control: "as sanity-ext4",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "sanity-xfs",
        run: sanity::xfs,
        settings: &[],
        summary: "the same with XFS",
        usual: USUAL,
    },
    Scenario {
        control: "an engine that answers before the sync (the disk lacks an acked block), one \
                  that parks with a request popped (in_flight is not 0), or one that forgets or \
                  repeats an answer over a restore (fsyncs and flushes differ)",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(10),
        name: "snapshot-under-load",
        run: snapshot_under_load::raw,
        settings: &[],
        summary: "20 live snapshots under raw fsync load, 10 of them restored in a new process",
        usual: USUAL,
    },
    Scenario {
        control: "as snapshot-under-load, and fsck",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(10),
        name: "snapshot-under-load-ext4",
        run: snapshot_under_load::ext4,
        settings: &[],
        summary: "the same on a mounted ext4, with fsck at the end",
        usual: USUAL,
    },
    Scenario {
        control: "a restore that does not compare the file's times or does not lock it",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(6),
        name: "stale-file",
        run: stale_file::run,
        settings: &[],
        summary: "a snapshot refuses a file that moved on, and takes a copy made while paused",
        usual: USUAL,
    },
    Scenario {
        control: "a pause without a deadline takes 30 s; one that leaves the VM half paused stops \
                  the load",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(6),
        name: "pause-slow-disk",
        run: pause_slow_disk::run,
        settings: &[],
        summary: "a pause on a hung disk fails in time by name, and the guest goes on",
        usual: USUAL,
    },
    Scenario {
        control: "an engine without the latch: the flush after the failed one succeeds",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "error-latch-ext4",
        run: error_latch::ext4,
        settings: &[],
        summary: "after a failed sync on ext4 every flush fails, and the snapshot is refused",
        usual: USUAL,
    },
    Scenario {
        control: "it is one: the device reports each failure once, as a stock one does",
        expect: Expect::Failure(&["a failed sync did not latch"]),
        groups: LAB,
        limit: minutes(5),
        name: "error-latch-control",
        run: error_latch::ext4,
        settings: &[("control", "on")],
        summary: "error-latch-ext4 sees a device without a latch",
        usual: USUAL,
    },
    Scenario {
        control: "as error-latch-ext4",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "error-latch-ext4-no-journal",
        run: error_latch::ext4_no_journal,
        settings: &[],
        summary: "the same on ext4 without a journal",
        usual: USUAL,
    },
    Scenario {
        control: "as error-latch-ext4",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "error-latch-xfs",
        run: error_latch::xfs,
        settings: &[],
        summary: "the same on XFS",
        usual: USUAL,
    },
    Scenario {
        control: "both files on the slow disk, or one thread that syncs for both devices",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "two-devices",
        run: two_devices::run,
        settings: &[],
        summary: "a device on a slow disk does not slow down the other one",
        usual: USUAL,
    },
    Scenario {
        control: "a shared mapping: the file changes",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "discard-writes",
        run: discard_writes::run,
        settings: &[],
        summary: "with discard_writes a flush succeeds and the file stays as it was",
        usual: USUAL,
    },
    Scenario {
        control: "a device thread that ends on a bad ring: the next flush or pause hangs",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(8),
        name: "hostile-guest",
        run: hostile_guest::run,
        settings: &[],
        summary: "every bad ring leaves a VMM that answers, pauses and resets",
        usual: USUAL,
    },
    Scenario {
        control: "cuts-control-*",
        name: "cuts-raw",
        run: cuts::raw,
        summary: "50 power cuts under 8 fsync threads on raw pmem: no acked block is lost",
        ..cuts::CUT
    },
    Scenario {
        control: "as cuts-raw, and fsck",
        name: "cuts-ext4",
        run: cuts::ext4,
        summary: "the same on ext4 in the guest, which mounts and is clean after each cut",
        usual: Usual {
            kernel: "6.12",
            ..USUAL
        },
        ..cuts::CUT
    },
    Scenario {
        control: "as cuts-raw",
        name: "cuts-restore",
        run: cuts::restore,
        summary: "the same on XFS, across three drains, snapshots and restores",
        ..cuts::CUT
    },
    Scenario {
        control: "it is one: a flush is answered, and nothing else",
        name: "cuts-control-no-sync",
        settings: &[("fault", "no-sync"), ("moments", "10"), ("acks", "200")],
        summary: "cuts-raw sees a device that never syncs",
        ..cuts::CONTROL
    },
    Scenario {
        control: "it is one: each answer is followed by its sync",
        name: "cuts-control-early",
        settings: &[
            ("fault", "early"),
            ("moments", "20"),
            ("acks", "200"),
            ("cost_ms", "100"),
        ],
        summary: "cuts-raw sees a device that answers before its sync",
        ..cuts::CONTROL
    },
    Scenario {
        control: "cuts-control-open-batch",
        limit: minutes(6),
        name: "cuts-schedule",
        run: cuts_schedule::run,
        summary: "a flush that comes during another one's sync gets a sync of its own",
        ..cuts::CUT
    },
    Scenario {
        control: "it is one: a flush that comes during a sync shares its result",
        name: "cuts-control-open-batch",
        run: cuts_schedule::run,
        settings: &[("fault", "open-batch"), ("moments", "40")],
        summary: "cuts-schedule sees a device that pops while a sync runs",
        ..cuts::CONTROL
    },
    Scenario {
        control: "it is one: sync_file_range takes the place of fdatasync",
        name: "cuts-control-sync-file-range",
        settings: &[
            ("fault", "sync-file-range"),
            ("moments", "10"),
            ("acks", "200"),
        ],
        summary: "cuts-raw sees a device that writes pages and flushes no cache",
        ..cuts::CONTROL
    },
    Scenario {
        control: "it is one: the backing ext4 is mounted with barrier=0",
        name: "cuts-control-no-barriers",
        settings: &[("mount", "barrier=0"), ("moments", "10"), ("acks", "200")],
        summary: "cuts-raw sees a backing filesystem that ignores barriers",
        ..cuts::CONTROL
    },
    Scenario {
        control: "sync_file_range, one of its cases, has to lose something",
        limit: minutes(12),
        name: "cuts-sync-calls",
        run: cuts_sync_calls::run,
        summary: "which sync calls keep stores to a mapped file on ext4, XFS and btrfs",
        ..cuts::CUT
    },
    Scenario {
        control: "as cuts-raw",
        name: "cuts-raw-long",
        run: cuts::raw,
        summary: "1,000 power cuts, as cuts-raw",
        ..cuts::LONG
    },
    Scenario {
        control: "as cuts-ext4",
        name: "cuts-ext4-long",
        run: cuts::ext4,
        summary: "1,000 power cuts, as cuts-ext4",
        usual: Usual {
            kernel: "6.12",
            ..USUAL
        },
        ..cuts::LONG
    },
    Scenario {
        control: "as cuts-restore",
        name: "cuts-restore-long",
        run: cuts::restore,
        summary: "1,000 power cuts, as cuts-restore",
        ..cuts::LONG
    },
    Scenario {
        control: "as snapshot-under-load-ext4",
        expect: Expect::Pass,
        groups: &["demo"],
        limit: minutes(8),
        name: "demo",
        run: demo::run,
        settings: &[],
        summary: "mkfs, mount, fsync load, live snapshot, kill, restore, verify, umount, fsck",
        usual: USUAL,
    },
];

/// The scenario with this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_is_there_once() {
        let names: HashSet<_> = ALL.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
