// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The scenarios: each one a function with a name.
//!
//! A scenario says in `control` which defect makes it fail. One that can't fail
//! is not a test.

use std::time::Duration;

use anyhow::Result;

use crate::inside::context::Context;

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
    /// The groups it belongs to (`lab`, `demo`, …), for filtering.
    pub groups: &'static [&'static str],
    /// The most time one trial of it may take.
    pub limit: Duration,
    /// Its name, as the command line has it.
    pub name: &'static str,
    /// Its code.
    pub run: fn(&mut Context) -> Result<()>,
    /// What it shows, one line.
    pub summary: &'static str,
}

/// Those of the default run.
const LAB: &[&str] = &["lab"];

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// Every scenario, in the order a reader meets them.
pub const ALL: &[Scenario] = &[
    Scenario {
        control: "a device whose flush fails, or a guest kick that does: mkfs_rc is not 0",
        groups: LAB,
        limit: minutes(5),
        name: "sanity-ext4",
        run: sanity::ext4,
        summary: "mkfs.ext4, mount, fsync, umount, fsck, and the files read from the host",
    },
    Scenario {
        control: "as sanity-ext4; a mount that falls back to the page cache is refused",
        groups: LAB,
        limit: minutes(5),
        name: "sanity-ext4-dax",
        run: sanity::ext4_dax,
        summary: "the same with dax=always and stores through a mapping",
    },
    Scenario {
        control: "as sanity-ext4",
        groups: LAB,
        limit: minutes(5),
        name: "sanity-xfs",
        run: sanity::xfs,
        summary: "the same with XFS",
    },
    Scenario {
        control: "an engine that answers before the sync (the disk lacks an acked block), one \
                  that parks with a request popped (in_flight is not 0), or one that forgets or \
                  repeats an answer over a restore (fsyncs and flushes differ)",
        groups: LAB,
        limit: minutes(10),
        name: "snapshot-under-load",
        run: snapshot_under_load::raw,
        summary: "20 live snapshots under raw fsync load, 10 of them restored in a new process",
    },
    Scenario {
        control: "as snapshot-under-load, and fsck",
        groups: LAB,
        limit: minutes(10),
        name: "snapshot-under-load-ext4",
        run: snapshot_under_load::ext4,
        summary: "the same on a mounted ext4, with fsck at the end",
    },
    Scenario {
        control: "a restore that does not compare the file's times or does not lock it",
        groups: LAB,
        limit: minutes(6),
        name: "stale-file",
        run: stale_file::run,
        summary: "a snapshot refuses a file that moved on, and takes a copy made while paused",
    },
    Scenario {
        control: "a pause without a deadline takes 30 s; one that leaves the VM half paused stops \
                  the load",
        groups: LAB,
        limit: minutes(6),
        name: "pause-slow-disk",
        run: pause_slow_disk::run,
        summary: "a pause on a hung disk fails in time by name, and the guest goes on",
    },
    Scenario {
        control: "an engine without the latch: the flush after the failed one succeeds",
        groups: LAB,
        limit: minutes(5),
        name: "error-latch-ext4",
        run: error_latch::ext4,
        summary: "after a failed sync on ext4 every flush fails, and the snapshot is refused",
    },
    Scenario {
        control: "as error-latch-ext4",
        groups: LAB,
        limit: minutes(5),
        name: "error-latch-ext4-no-journal",
        run: error_latch::ext4_no_journal,
        summary: "the same on ext4 without a journal",
    },
    Scenario {
        control: "as error-latch-ext4",
        groups: LAB,
        limit: minutes(5),
        name: "error-latch-xfs",
        run: error_latch::xfs,
        summary: "the same on XFS",
    },
    Scenario {
        control: "both files on the slow disk, or one thread that syncs for both devices",
        groups: LAB,
        limit: minutes(5),
        name: "two-devices",
        run: two_devices::run,
        summary: "a device on a slow disk does not slow down the other one",
    },
    Scenario {
        control: "a shared mapping: the file changes",
        groups: LAB,
        limit: minutes(5),
        name: "discard-writes",
        run: discard_writes::run,
        summary: "with discard_writes a flush succeeds and the file stays as it was",
    },
    Scenario {
        control: "a device thread that ends on a bad ring: the next flush or pause hangs",
        groups: LAB,
        limit: minutes(8),
        name: "hostile-guest",
        run: hostile_guest::run,
        summary: "every bad ring leaves a VMM that answers, pauses and resets",
    },
    Scenario {
        control: "as snapshot-under-load-ext4",
        groups: &["demo"],
        limit: minutes(8),
        name: "demo",
        run: demo::run,
        summary: "mkfs, mount, fsync load, live snapshot, kill, restore, verify, umount, fsck",
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
