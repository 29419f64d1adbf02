// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! What the device counts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Number of counters in [`Counters::named`].
pub const COUNTER_COUNT: usize = 14;

/// A snapshot of one device's counters.
///
/// All of them live as long as the device, over resets of the guest's driver,
/// and are carried over snapshot and restore. Times are in microseconds. A
/// field that a saved state does not know is zero.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Counters {
    /// Flush requests that were answered, with success or not.
    pub flushes: u64,
    /// Syncs of the backing file that ended: one per batch, and one per snapshot.
    pub host_syncs: u64,
    /// Flushes that shared another one's host sync: a batch of n adds n - 1.
    pub coalesced: u64,
    /// Flushes that were answered with a failure.
    pub errors: u64,
    /// Chains that hold no flush request of the format the specification gives.
    pub malformed: u64,
    /// Requests popped and not yet pushed.
    pub in_flight: u64,
    /// The most that `in_flight` ever was.
    pub in_flight_max: u64,
    /// Time spent in host syncs.
    pub sync_time_us_sum: u64,
    /// The longest host sync.
    pub sync_time_us_max: u64,
    /// Drains that ended with a quiesced device.
    pub drains: u64,
    /// Time from the start of a drain to its end, over all `drains`.
    pub drain_time_us_sum: u64,
    /// The longest of them.
    pub drain_time_us_max: u64,
    /// 1 while the error latch is set.
    pub latched: u64,
    /// 1 while the ring is inconsistent and the device waits for its reset.
    pub needs_reset: u64,
}

impl Counters {
    /// Every counter with the name a management interface shows.
    pub fn named(&self) -> [(&'static str, u64); COUNTER_COUNT] {
        [
            ("flushes", self.flushes),
            ("host_syncs", self.host_syncs),
            ("coalesced", self.coalesced),
            ("errors", self.errors),
            ("malformed", self.malformed),
            ("in_flight", self.in_flight),
            ("in_flight_max", self.in_flight_max),
            ("sync_time_us_sum", self.sync_time_us_sum),
            ("sync_time_us_max", self.sync_time_us_max),
            ("drains", self.drains),
            ("drain_time_us_sum", self.drain_time_us_sum),
            ("drain_time_us_max", self.drain_time_us_max),
            ("latched", self.latched),
            ("needs_reset", self.needs_reset),
        ]
    }

    pub(crate) fn popped(&mut self, requests: u64) {
        self.in_flight = self.in_flight.wrapping_add(requests);
        self.in_flight_max = self.in_flight_max.max(self.in_flight);
    }

    pub(crate) fn host_sync(&mut self, took: Duration) {
        let took = micros(took);
        self.host_syncs = self.host_syncs.wrapping_add(1);
        self.sync_time_us_sum = self.sync_time_us_sum.wrapping_add(took);
        self.sync_time_us_max = self.sync_time_us_max.max(took);
    }

    pub(crate) fn drained(&mut self, took: Duration) {
        let took = micros(took);
        self.drains = self.drains.wrapping_add(1);
        self.drain_time_us_sum = self.drain_time_us_sum.wrapping_add(took);
        self.drain_time_us_max = self.drain_time_us_max.max(took);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
