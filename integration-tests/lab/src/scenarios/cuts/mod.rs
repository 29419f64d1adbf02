// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Power cuts.

use crate::scenarios::{Expect, RUST, Scenario, USUAL, Usual, minutes};

mod recordings;
mod schedule;
mod sync_calls;

/// In the order a reader meets them.
pub const ALL: &[Scenario] = &[
    Scenario {
        control: "cuts-control-*",
        name: "cuts-raw",
        run: recordings::raw,
        summary: "50 power cuts under 8 fsync threads on raw pmem: no acked block is lost",
        ..recordings::CUT
    },
    Scenario {
        control: "as cuts-raw, and cuts-control-preflush",
        name: "cuts-ext4",
        run: recordings::ext4,
        summary: "the same on ext4 in the guest, which mounts and is clean after each cut",
        usual: Usual {
            kernel: "6.12",
            ..RUST
        },
        ..recordings::CUT
    },
    Scenario {
        control: "as cuts-raw",
        name: "cuts-restore",
        run: recordings::restore,
        summary: "the same on XFS, across three drains, snapshots and restores",
        ..recordings::CUT
    },
    Scenario {
        control: "it is one: a flush is answered, and nothing else",
        name: "cuts-control-no-sync",
        settings: &[("fault", "no-sync"), ("moments", "10"), ("acks", "200")],
        summary: "cuts-raw sees a device that never syncs",
        ..recordings::CONTROL
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
        ..recordings::CONTROL
    },
    Scenario {
        control: "it is one: 6.12's own driver stores a journal's commit before the flush of what it commits",
        expect: Expect::Failure(&[
            "power cuts",
            "nothing else is wrong, but the guest's filesystem needed a repair",
        ]),
        name: "cuts-control-preflush",
        run: recordings::ext4,
        settings: &[
            ("moments", "100"),
            ("acks", "200"),
            ("kept", "7"),
            ("torn", "1"),
        ],
        summary: "cuts-ext4 sees a driver that does not order a write with PREFLUSH",
        usual: Usual {
            kernel: "6.12",
            ..USUAL
        },
        ..recordings::CONTROL
    },
    Scenario {
        control: "cuts-control-open-batch",
        limit: minutes(6),
        name: "cuts-schedule",
        run: schedule::run,
        summary: "a flush that comes during another one's sync gets a sync of its own",
        ..recordings::CUT
    },
    Scenario {
        control: "it is one: a flush that comes during a sync shares its result",
        name: "cuts-control-open-batch",
        run: schedule::run,
        settings: &[("fault", "open-batch"), ("moments", "40")],
        summary: "cuts-schedule sees a device that pops while a sync runs",
        ..recordings::CONTROL
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
        ..recordings::CONTROL
    },
    Scenario {
        control: "it is one: the backing ext4 is mounted with barrier=0",
        name: "cuts-control-no-barriers",
        settings: &[("mount", "barrier=0"), ("moments", "10"), ("acks", "200")],
        summary: "cuts-raw sees a backing filesystem that ignores barriers",
        ..recordings::CONTROL
    },
    Scenario {
        control: "sync_file_range, one of its cases, has to lose something",
        limit: minutes(12),
        name: "cuts-sync-calls",
        run: sync_calls::run,
        summary: "which sync calls keep stores to a mapped file on ext4, XFS and btrfs",
        ..recordings::CUT
    },
    Scenario {
        control: "as cuts-raw",
        name: "cuts-raw-long",
        run: recordings::raw,
        summary: "1,000 power cuts, as cuts-raw",
        ..recordings::LONG
    },
    Scenario {
        control: "as cuts-ext4",
        name: "cuts-ext4-long",
        run: recordings::ext4,
        summary: "1,000 power cuts, as cuts-ext4",
        usual: Usual {
            kernel: "6.12",
            ..RUST
        },
        ..recordings::LONG
    },
    Scenario {
        control: "as cuts-restore",
        name: "cuts-restore-long",
        run: recordings::restore,
        summary: "1,000 power cuts, as cuts-restore",
        ..recordings::LONG
    },
];
