// SPDX-License-Identifier: GPL-2.0-only

//! What sysfs shows.

use core::ffi::CStr;
use core::sync::atomic::{AtomicU64, Ordering};

use flush_core::{Counters, Device};

/// What suspends and resets met, counted by the driver; all else flush-core counts.
///
/// Written by one task at a time (suspend, or whoever resets the transport), read by anyone; the numbers are independent of
/// each other, so relaxed will do.
#[derive(Default)]
pub struct Freezes {
    /// Freezes that were asked for.
    pub begun: AtomicU64,
    /// Of these, how many found a flush in flight.
    pub in_flight: AtomicU64,
    /// Of these, how many had flushes waiting for the thaw when it came.
    pub parked: AtomicU64,
    /// Of these, how many were called off.
    pub called_off: AtomicU64,
    /// Resets of the transport.
    pub resets: AtomicU64,
}

impl Freezes {
    /// Adds one if something happened.
    pub fn count(counter: &AtomicU64, happened: bool) {
        counter.fetch_add(u64::from(happened), Ordering::Relaxed);
    }
}

/// The counter of this number; `helpers.c` has the names in the same order.
pub fn counter(counters: Counters, freezes: &Freezes, index: u32) -> u64 {
    match index {
        0 => counters.flushes,
        1 => counters.host_flushes,
        2 => counters.coalesced,
        3 => counters.errors,
        4 => counters.timeouts,
        5 => counters.in_flight,
        6 => counters.parked,
        7 => freezes.begun.load(Ordering::Relaxed),
        8 => freezes.in_flight.load(Ordering::Relaxed),
        9 => freezes.parked.load(Ordering::Relaxed),
        10 => freezes.called_off.load(Ordering::Relaxed),
        11 => counters.rescued,
        12 => freezes.resets.load(Ordering::Relaxed),
        _ => 0,
    }
}

/// The name of a state.
pub fn state(device: Device) -> &'static CStr {
    match device {
        Device::Frozen => c"frozen",
        Device::Live => c"live",
        Device::Draining => c"draining",
        Device::Broken => c"broken",
        Device::Gone => c"gone",
    }
}
