// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A filesystem's whole life on the device.

use crate::job::{Driver, VmmKind};
use crate::scenarios::{Expect, LAB, RUST, Scenario, USUAL, Usual, minutes};

mod demo;
mod sanity;

/// In the order a reader meets them.
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
        usual: RUST,
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
        usual: Usual {
            driver: Driver::Rust,
            kernel: "6.12",
            vmm: VmmKind::Qemu,
        },
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
