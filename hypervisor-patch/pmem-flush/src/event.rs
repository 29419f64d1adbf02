// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! What the device tells about itself.

use std::time::Duration;

/// Something a VMM's event log should hold.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The guest's driver has set the device up.
    Activated,
    /// A host sync failed. The guest was or will be told, unless it has reset
    /// the device since.
    FlushFailed {
        /// The operating system's error number, 0 where there is none.
        errno: i32,
        /// The error in words.
        error: String,
    },
    /// The error latch was set; the cause is that of the first failed sync.
    Latched {
        /// The operating system's error number, 0 where there is none.
        errno: i32,
        /// The error in words.
        error: String,
    },
    /// The device was asked to quiesce.
    DrainStarted,
    /// Every popped request is answered and nothing is popped any more.
    DrainDone {
        /// Time since [`Event::DrainStarted`].
        took: Duration,
    },
    /// The running sync did not end before the deadline. The device goes on.
    DrainTimedOut {
        /// Time since [`Event::DrainStarted`].
        took: Duration,
    },
    /// The ring is inconsistent. The queue is parked until the driver resets
    /// the device.
    NeedsReset {
        /// What is wrong with the ring.
        reason: String,
    },
    /// A snapshot was begun, by override, without what the guest wrote into a
    /// private mapping.
    DiscardedWrites {
        /// How many pages; None if that can't be told.
        pages: Option<u64>,
    },
}

impl Event {
    /// The event's name in an event log.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Activated => "activated",
            Event::FlushFailed { .. } => "flush-failed",
            Event::Latched { .. } => "latched",
            Event::DrainStarted => "drain-started",
            Event::DrainDone { .. } => "drain-done",
            Event::DrainTimedOut { .. } => "drain-timed-out",
            Event::NeedsReset { .. } => "needs-reset",
            Event::DiscardedWrites { .. } => "discarded-writes-not-in-snapshot",
        }
    }

    /// The event's properties, without the device's id.
    pub fn properties(&self) -> Vec<(&'static str, String)> {
        match self {
            Event::Activated | Event::DrainStarted => Vec::new(),
            Event::FlushFailed { errno, error } | Event::Latched { errno, error } => {
                vec![("errno", errno.to_string()), ("error", error.clone())]
            }
            Event::DrainDone { took } | Event::DrainTimedOut { took } => {
                vec![("took_ms", took.as_millis().to_string())]
            }
            Event::NeedsReset { reason } => vec![("reason", reason.clone())],
            Event::DiscardedWrites { pages } => {
                let pages = pages.map_or("unknown".to_owned(), |pages| pages.to_string());
                vec![("pages", pages)]
            }
        }
    }
}

/// Where events go.
///
/// Called on the device thread, on a management thread, and, for a sync whose
/// device was reset meanwhile, on the worker, which runs under
/// [`worker_rules`](crate::worker_rules): an observer allocates, sends to a
/// channel or writes to an open file, and does nothing else. No lock of the
/// engine is held during the call.
pub trait Observer: Send + Sync {
    /// Takes note of `event` of the device `id`.
    fn event(&self, id: &str, event: &Event);
}

/// An observer for a host without an event log.
impl Observer for () {
    fn event(&self, _id: &str, _event: &Event) {}
}
