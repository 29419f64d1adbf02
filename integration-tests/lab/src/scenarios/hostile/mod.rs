// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Guests that break the rules.

use crate::scenarios::{Expect, LAB, Scenario, USUAL, minutes};

mod guest;

/// In the order a reader meets them.
pub const ALL: &[Scenario] = &[
    Scenario {
        control: "a device thread that ends on a bad ring: the next flush or pause hangs",
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
        control: "it is one: the device answers nothing at all",
        expect: Expect::Failure(&["bad ring `good`", "it fell silent"]),
        groups: LAB,
        limit: minutes(5),
        name: "hostile-guest-control",
        run: guest::run,
        settings: &[("fault", "silent")],
        summary: "hostile-guest sees a device that falls silent",
        usual: USUAL,
    },
];
