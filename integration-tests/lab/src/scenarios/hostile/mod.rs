// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Guests that break the rules.

use crate::scenarios::{Expect, LAB, Scenario, USUAL, minutes};

mod guest;

/// In the order a reader meets them.
pub const ALL: &[Scenario] = &[
    Scenario {
        control: "a device thread that ends at a bad ring (see the control): no flush after a reset",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(8),
        name: "hostile-guest",
        run: guest::run,
        settings: &[],
        summary: "every bad ring leaves a VMM that answers, pauses and resets",
        usual: USUAL,
    },
    Scenario {
        control: "it is one: the device's thread ends at a bad ring",
        expect: Expect::Failure(&[
            "bad ring `head-out-of-range`",
            "no good flush after a reset",
        ]),
        groups: LAB,
        limit: minutes(5),
        name: "hostile-guest-control",
        run: guest::run,
        settings: &[("fault", "fragile")],
        summary: "hostile-guest sees a device that good rings leave well and a bad one kills",
        usual: USUAL,
    },
];
