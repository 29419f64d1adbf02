// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Our guest driver: what it saves, and devices that lie, break or go.

use crate::job::VmmKind;
use crate::scenarios::{Expect, LAB, RUST, Scenario, USUAL, Usual, minutes};

pub mod busy;
mod coalesces;
mod faults;
mod memory_pressure;
mod order;
mod pressure;
mod removal;

/// In the order a reader meets them.
pub const ALL: &[Scenario] = &[
    Scenario {
        control: "a driver with a host flush for each fsync (the kernel's own: see the control)",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(6),
        name: "driver-coalesces",
        run: coalesces::run,
        settings: &[],
        summary: "16 threads in fsync share host flushes, at most 0.2 each; one thread shares none",
        usual: RUST,
    },
    Scenario {
        control: "it is one: the kernel's own driver flushes the host for each fsync",
        expect: Expect::Failure(&["more than 0.2 for each"]),
        groups: LAB,
        limit: minutes(6),
        name: "driver-coalesces-control",
        run: coalesces::run,
        settings: &[("each", "20")],
        summary: "driver-coalesces sees a driver that does not coalesce",
        usual: USUAL,
    },
    Scenario {
        control: "a driver that stores the data and then flushes (6.12's own: see the control)",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "driver-preflush-order",
        run: order::run,
        settings: &[],
        summary: "the data of a write with PREFLUSH is stored when the flush before it has ended",
        usual: Usual {
            kernel: "6.12",
            ..RUST
        },
    },
    Scenario {
        control: "it is one: 6.12's own driver chains the flush to a write that it has not held back",
        expect: Expect::Failure(&["is in the memory before its PREFLUSH has ended"]),
        groups: LAB,
        limit: minutes(5),
        name: "driver-preflush-order-control",
        run: order::run,
        settings: &[],
        summary: "driver-preflush-order sees a driver that stores first",
        usual: Usual {
            kernel: "6.12",
            ..USUAL
        },
    },
    Scenario {
        control: "a driver that ignores the used length or takes a status for an errno (the kernel's own: \
                  see the control)",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(6),
        name: "driver-lying-device",
        run: faults::lying,
        settings: &[],
        summary: "bad cookie, length 0, odd status, double and late answer: EIO, no hang, works when bound anew",
        usual: RUST,
    },
    Scenario {
        control: "it is one: the kernel's own driver, which does not look at the used length",
        expect: Expect::Failure(&[
            "the lie `once:len0`",
            "flushes have succeeded that the device did not answer",
        ]),
        groups: LAB,
        limit: minutes(5),
        name: "driver-lying-device-control",
        run: faults::lying,
        settings: &[],
        summary: "driver-lying-device sees a driver that believes its device",
        usual: USUAL,
    },
    Scenario {
        control: "a driver without a deadline (the kernel's own: see the control): the flusher's threads never get \
                  an error",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "driver-silent-device",
        run: faults::silent,
        settings: &[],
        summary: "no answer within flush_timeout_ms: ETIMEDOUT to those who wait, then EIO; works when bound anew",
        usual: Usual {
            kernel: "6.12",
            ..RUST
        },
    },
    Scenario {
        control: "it is one: the kernel's own driver, which has no deadline",
        expect: Expect::Failure(&["an error for everyone who flushes"]),
        groups: LAB,
        limit: minutes(5),
        name: "driver-silent-device-control",
        run: faults::silent,
        settings: &[],
        summary: "driver-silent-device sees a driver that waits for ever",
        usual: Usual {
            kernel: "6.12",
            ..USUAL
        },
    },
    Scenario {
        control: "a driver that does not look at the status (the kernel's own: see the control): who waits is not \
                  told",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "driver-needs-reset",
        run: faults::needs_reset,
        settings: &[],
        summary: "a device that asks for a reset under load: EIO to all, works when bound anew",
        usual: Usual {
            kernel: "6.12",
            ..RUST
        },
    },
    Scenario {
        control: "it is one: the kernel's own driver, which does not look at the status",
        expect: Expect::Failure(&["who waits for the device is not told"]),
        groups: LAB,
        limit: minutes(5),
        name: "driver-needs-reset-control",
        run: faults::needs_reset,
        settings: &[],
        summary: "driver-needs-reset sees a driver whose waiters are not told",
        usual: Usual {
            kernel: "6.12",
            ..USUAL
        },
    },
    Scenario {
        control: "a driver that does not look for DRIVER_OK (the kernel's own: see the control): who waits is not \
                  told",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "driver-surprise-removal",
        run: removal::surprise,
        settings: &[],
        summary: "a device that is pulled out under load: EIO to all, unbind works, the others go on",
        usual: RUST,
    },
    Scenario {
        control: "it is one: the kernel's own driver, which does not look for DRIVER_OK",
        expect: Expect::Failure(&["who waits for the device is not told"]),
        groups: LAB,
        limit: minutes(5),
        name: "driver-surprise-removal-control",
        run: removal::surprise,
        settings: &[],
        summary: "driver-surprise-removal sees a driver whose waiters are not told",
        usual: USUAL,
    },
    Scenario {
        control: "a driver that forgets a waiter (see the control)",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "driver-unplug",
        run: removal::unplug,
        settings: &[],
        summary: "an orderly unplug under load: nobody hangs, nothing breaks",
        usual: Usual {
            vmm: VmmKind::Qemu,
            ..RUST
        },
    },
    Scenario {
        control: "it is one: the driver has lost the answer to a flush",
        expect: Expect::Failure(&["an orderly removal broke the device"]),
        groups: LAB,
        limit: minutes(5),
        name: "driver-unplug-control",
        run: removal::unplug,
        settings: &[("control", "on")],
        summary: "driver-unplug sees a driver with a waiter that nobody answers",
        usual: Usual {
            vmm: VmmKind::Qemu,
            ..RUST
        },
    },
    Scenario {
        control: "a flush path that needs memory: see the control",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(10),
        name: "memory-pressure",
        run: memory_pressure::run,
        settings: &[],
        summary: "fsync while the guest reclaims and swaps to a device of the same driver",
        usual: Usual {
            kernel: "6.12",
            ..RUST
        },
    },
    Scenario {
        control: "as driver-lying-device; each lie must meet a guest that swaps, or the run does not count",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(10),
        name: "memory-pressure-lying-device",
        run: faults::lying,
        settings: &[("memory", "short")],
        summary: "driver-lying-device in a guest that reclaims and swaps to a good device of the same driver",
        usual: Usual {
            kernel: "6.12",
            ..RUST
        },
    },
    Scenario {
        control: "as driver-silent-device; the flushes must meet a guest that swaps, or the run does not count",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(10),
        name: "memory-pressure-silent-device",
        run: faults::silent,
        settings: &[("memory", "short")],
        summary: "driver-silent-device in a guest that reclaims and swaps to a good device of the same driver",
        usual: Usual {
            kernel: "6.12",
            ..RUST
        },
    },
    Scenario {
        control: "it is one: each request of the driver needs a page that it can't wait for",
        expect: Expect::Failure(&["the load `load` met", "errors; the first:"]),
        groups: LAB,
        limit: minutes(10),
        name: "memory-pressure-control",
        run: memory_pressure::run,
        settings: &[("driver_fault", "take_page=1000000000")],
        summary: "memory-pressure sees a driver that allocates without being allowed to sleep",
        usual: Usual {
            kernel: "6.12",
            ..RUST
        },
    },
];
