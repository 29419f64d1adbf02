// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Live snapshots: under load, at bad moments, and what belongs to one.

use crate::scenarios::{Expect, LAB, RUST, SNAPSHOTS, Scenario, USUAL, Usual, minutes};

mod discard_writes;
mod discarded;
mod moments;
mod stale_file;
mod under_load;

/// In the order a reader meets them.
pub const ALL: &[Scenario] = &[
    Scenario {
        control: "an engine that answers before the sync (the disk lacks an acked block), one \
                  that parks with a request popped (in_flight is not 0), or one that forgets or \
                  repeats an answer over a restore (fsyncs and flushes differ)",
        expect: Expect::Pass,
        groups: SNAPSHOTS,
        limit: minutes(10),
        name: "snapshot-under-load",
        run: under_load::raw,
        settings: &[],
        summary: "20 live snapshots under raw fsync load, 10 of them restored in a new process",
        usual: USUAL,
    },
    Scenario {
        control: "it is one: nothing is paused, and so nothing drained",
        expect: Expect::Failure(&["paused with a request popped and not answered"]),
        groups: SNAPSHOTS,
        limit: minutes(5),
        name: "snapshot-under-load-control",
        run: under_load::raw,
        settings: &[("control", "on")],
        summary: "snapshot-under-load sees a pause that does not drain",
        usual: USUAL,
    },
    Scenario {
        control: "as snapshot-under-load, and fsck",
        expect: Expect::Pass,
        groups: SNAPSHOTS,
        limit: minutes(10),
        name: "snapshot-under-load-ext4",
        run: under_load::ext4,
        settings: &[],
        summary: "the same on a mounted ext4, with fsck at the end",
        usual: Usual {
            kernel: "6.12",
            ..RUST
        },
    },
    Scenario {
        control: "a disk with room (see the control), a writer that leaves its files behind, or a \
                  failed snapshot that changes the VM's state",
        expect: Expect::Pass,
        groups: SNAPSHOTS,
        limit: minutes(6),
        name: "snapshot-moments",
        run: moments::run,
        settings: &[],
        summary: "after a drain that timed out, onto a full disk, with a sync that fails",
        usual: USUAL,
    },
    Scenario {
        control: "it is one: the disk has room for the snapshot",
        expect: Expect::Failure(&["a snapshot (disk_full) was accepted"]),
        groups: SNAPSHOTS,
        limit: minutes(5),
        name: "snapshot-moments-control",
        run: moments::run,
        settings: &[("control", "on")],
        summary: "snapshot-moments sees a snapshot that has room",
        usual: USUAL,
    },
    Scenario {
        control: "a restore that forgets the device status (see the control), or serves a queue that needs a reset",
        expect: Expect::Pass,
        groups: SNAPSHOTS,
        limit: minutes(5),
        name: "snapshot-needs-reset",
        run: moments::needs_reset,
        settings: &[],
        summary: "a device that needs its reset still does after a restore, and recovers",
        usual: USUAL,
    },
    Scenario {
        control: "it is one: a restore that forgets the device status",
        expect: Expect::Failure(&["NEEDS_RESET did not come over the snapshot"]),
        groups: SNAPSHOTS,
        limit: minutes(5),
        name: "snapshot-needs-reset-control",
        run: moments::needs_reset,
        settings: &[("fault", "forgetful")],
        summary: "snapshot-needs-reset sees a restore that forgets",
        usual: USUAL,
    },
    Scenario {
        control: "a restore that does not compare the file's times or does not lock it",
        expect: Expect::Pass,
        groups: SNAPSHOTS,
        limit: minutes(6),
        name: "stale-file",
        run: stale_file::run,
        settings: &[],
        summary: "a snapshot refuses a file that moved on, and takes a copy made while paused",
        usual: USUAL,
    },
    Scenario {
        control: "it is one: a restore that does not compare the file's times",
        expect: Expect::Failure(&["a restore with a stale file was accepted"]),
        groups: SNAPSHOTS,
        limit: minutes(5),
        name: "stale-file-control",
        run: stale_file::run,
        settings: &[("control", "on")],
        summary: "stale-file sees a restore that does not look",
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
        control: "it is one: the mapping is a shared one",
        expect: Expect::Failure(&["times for a private mapping"]),
        groups: LAB,
        limit: minutes(5),
        name: "discard-writes-control",
        run: discard_writes::run,
        settings: &[("control", "on")],
        summary: "discard-writes sees a device that writes into its file",
        usual: USUAL,
    },
    Scenario {
        control: "a snapshot that does not look at the pages, or that refuses all such devices",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "discard-writes-snapshot",
        run: discarded::run,
        settings: &[],
        summary: "a guest that only reads a private mapping is snapshotted, one that wrote is not",
        usual: USUAL,
    },
];
