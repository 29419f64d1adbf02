// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Guests that sleep with flushes in flight.

use crate::job::{Driver, VmmKind};
use crate::scenarios::{Expect, RUST, SUSPENDS, Scenario, USUAL, Usual, minutes};

mod cycles;
pub mod sleep;
mod snapshots;

/// In the order a reader meets them.
pub const ALL: &[Scenario] = &[
    Scenario {
        control: "a driver that fails or forgets flushes at freeze (the kernel's own: see the \
                  control), or flushes a host that it has reset",
        expect: Expect::Pass,
        groups: SUSPENDS,
        limit: minutes(10),
        name: "suspend-idle",
        run: cycles::idle,
        settings: &[],
        summary: "s2idle with flushes in flight and parked, flush cost 50 ms, 0 and 3 s",
        usual: RUST,
    },
    Scenario {
        control: "it is one: the kernel's own driver",
        expect: Expect::Failure(&["the suspend cost flushes"]),
        groups: SUSPENDS,
        limit: minutes(10),
        name: "suspend-idle-control",
        run: cycles::idle,
        settings: &[],
        summary: "suspend-idle sees a driver that loses flushes",
        usual: USUAL,
    },
    Scenario {
        control: "as suspend-idle",
        expect: Expect::Pass,
        groups: SUSPENDS,
        limit: minutes(10),
        name: "suspend-ram",
        run: cycles::ram,
        settings: &[],
        summary: "the same with suspend to RAM (S3)",
        usual: Usual {
            driver: Driver::Rust,
            kernel: "6.12",
            vmm: VmmKind::Qemu,
        },
    },
    Scenario {
        control: "it is one: the kernel's own driver",
        expect: Expect::Failure(&["the suspend cost flushes"]),
        groups: SUSPENDS,
        limit: minutes(10),
        name: "suspend-ram-control",
        run: cycles::ram,
        settings: &[],
        summary: "suspend-ram sees a driver that loses flushes",
        usual: Usual {
            driver: Driver::C,
            kernel: "6.12",
            vmm: VmmKind::Qemu,
        },
    },
    Scenario {
        control: "as suspend-idle",
        expect: Expect::Pass,
        groups: SUSPENDS,
        limit: minutes(12),
        name: "suspend-disk",
        run: cycles::disk,
        settings: &[],
        summary: "the same with hibernation, its image on a second device of the driver",
        usual: Usual {
            driver: Driver::Rust,
            kernel: "6.12",
            vmm: VmmKind::Vmm,
        },
    },
    Scenario {
        control: "it is one: the kernel's own driver",
        expect: Expect::Failure(&["the suspend cost flushes"]),
        groups: SUSPENDS,
        limit: minutes(10),
        name: "suspend-disk-control",
        run: cycles::disk,
        settings: &[("cycles", "3")],
        summary: "suspend-disk sees a driver that loses flushes",
        usual: USUAL,
    },
    Scenario {
        control: "a freeze without a deadline (see the control), or one that gives up and fails what it held back",
        expect: Expect::Pass,
        groups: SUSPENDS,
        limit: minutes(8),
        name: "suspend-called-off",
        run: cycles::called_off,
        settings: &[],
        summary: "a flush that outlasts freeze_timeout_ms: EBUSY to the suspend, no error to others",
        usual: RUST,
    },
    Scenario {
        control: "it is one: the driver's deadline is longer than the flush",
        expect: Expect::Failure(&["no suspend was called off"]),
        groups: SUSPENDS,
        limit: minutes(5),
        name: "suspend-called-off-control",
        run: cycles::called_off,
        settings: &[("control", "on"), ("cycles", "1")],
        summary: "suspend-called-off sees a freeze that is not given up",
        usual: RUST,
    },
    Scenario {
        control: "as suspend-idle (see the control) and snapshot-under-load",
        expect: Expect::Pass,
        groups: SUSPENDS,
        limit: minutes(8),
        name: "suspend-snapshots",
        run: snapshots::run,
        settings: &[],
        summary: "suspends and snapshots in alternation, and snapshots of a guest that sleeps",
        usual: RUST,
    },
    Scenario {
        control: "it is one: the kernel's own driver",
        expect: Expect::Failure(&["the suspend cost flushes"]),
        groups: SUSPENDS,
        limit: minutes(8),
        name: "suspend-snapshots-control",
        run: snapshots::run,
        settings: &[],
        summary: "suspend-snapshots sees a driver that loses flushes",
        usual: USUAL,
    },
];
