// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! What can happen to a device, one thing after the other.

use std::vec::Vec;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof};

use crate::Ticks;

/// What the host gives back.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    /// Its oldest request, with a status (or none written) and a length.
    Status(Option<u32>, u32),
    /// A cookie that no request ever had.
    Unknown,
    /// The last cookie once more.
    Repeated,
}

/// Why the ring takes no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    NoMemory,
    Broken,
}

/// One event.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A task asks for a flush.
    Task,
    /// A bio does.
    Bio,
    /// Tasks that have a result read it.
    Collect,
    /// The host answers and interrupts.
    Host(Answer),
    /// The host answers; the interrupt is lost.
    Lost(Answer),
    Pass(Ticks),
    Watchdog,
    NeedsReset,
    BreakQueue,
    FailKicks(bool),
    /// What the ring says to the next request.
    Refuse(Option<Refused>),
    MarkBroken,
    /// A freeze with this timeout, and what happens while it waits.
    Freeze(Ticks, Vec<Step>),
    Thaw,
    Reset,
    BeginRemove(Ticks),
    Limit(Ticks),
    FinishRemove(Ticks, Vec<Step>),
}

fn answer() -> BoxedStrategy<Answer> {
    let status = prop_oneof![6 => Just(Some(0)), 1 => Just(None), 2 => any::<u32>().prop_map(Some)];
    let len = prop_oneof![6 => Just(4), 1 => 0_u32..4, 1 => 5_u32..];
    prop_oneof![
        20 => (status, len).prop_map(|(status, len)| Answer::Status(status, len)),
        1 => Just(Answer::Unknown),
        1 => Just(Answer::Repeated),
    ]
    .boxed()
}

/// What can happen while another thread sleeps in a freeze or a removal.
fn meanwhile() -> BoxedStrategy<Step> {
    prop_oneof![
        8 => Just(Step::Task),
        6 => Just(Step::Bio),
        6 => Just(Step::Collect),
        10 => answer().prop_map(Step::Host),
        1 => answer().prop_map(Step::Lost),
        3 => (0_u64..8).prop_map(Step::Pass),
        2 => Just(Step::Watchdog),
        1 => Just(Step::NeedsReset),
        1 => Just(Step::BreakQueue),
    ]
    .boxed()
}

/// Any event. The device's end is rare, so that most runs go on for long.
pub(super) fn step() -> BoxedStrategy<Step> {
    let refused = prop_oneof![Just(Refused::NoMemory), Just(Refused::Broken)];
    prop_oneof![
        40 => meanwhile(),
        1 => any::<bool>().prop_map(Step::FailKicks),
        1 => option::of(refused).prop_map(Step::Refuse),
        1 => Just(Step::MarkBroken),
        4 => (0_u64..20, vec(meanwhile(), 0..8)).prop_map(|(t, s)| Step::Freeze(t, s)),
        5 => Just(Step::Thaw),
        3 => Just(Step::Reset),
        1 => (0_u64..20).prop_map(Step::BeginRemove),
        1 => (0_u64..20).prop_map(Step::Limit),
        1 => (0_u64..20, vec(meanwhile(), 0..8)).prop_map(|(t, s)| Step::FinishRemove(t, s)),
    ]
    .boxed()
}
