// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! What the driver counts.

/// Totals since the device was made, and where it stands now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Flushes that were asked for (tasks and bios), those refused included.
    pub flushes: u64,
    /// Requests published to the host.
    pub host_flushes: u64,
    /// Flushes that shared a host flush with an earlier one.
    pub coalesced: u64,
    /// Flushes that ended with an error, or were refused with one.
    pub errors: u64,
    /// Times the host was silent for longer than the flush timeout.
    pub timeouts: u64,
    /// Answers that the watchdog found in the ring: their interrupt was lost, or late.
    pub rescued: u64,
    /// Requests published and neither answered nor given up: 0 or 1.
    pub in_flight: u64,
    /// Flushes that wait for a generation not yet published.
    pub parked: u64,
}
