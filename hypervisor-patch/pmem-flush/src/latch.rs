// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! The error latch of a backing file.
//!
//! Linux reports a writeback error to each open file once
//! (`Documentation/filesystems/vfs.rst`, "Handling errors during writeback"),
//! and some filesystems drop the pages that could not be written. A sync that
//! succeeds after a failed one therefore proves nothing about the earlier
//! writes. The latch keeps every later flush failing until somebody who knows
//! the storage says otherwise.

use std::str::FromStr;
use std::{fmt, io, mem};

use serde::{Deserialize, Serialize};

/// What happens after a failed host sync.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncErrorPolicy {
    /// Every later flush fails, until the latch is cleared.
    #[default]
    Latch,
    /// The batch's flushes fail, the next batch asks the storage again. Only
    /// for storage that keeps failed pages dirty.
    Report,
}

impl fmt::Display for SyncErrorPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SyncErrorPolicy::Latch => "latch",
            SyncErrorPolicy::Report => "report",
        })
    }
}

/// The value is neither `latch` nor `report`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("'{0}' is no sync error policy: it is 'latch' or 'report'")]
pub struct ParsePolicyError(String);

impl FromStr for SyncErrorPolicy {
    type Err = ParsePolicyError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value {
            "latch" => Ok(SyncErrorPolicy::Latch),
            "report" => Ok(SyncErrorPolicy::Report),
            _ => Err(ParsePolicyError(value.to_owned())),
        }
    }
}

/// The failed sync that set the latch.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LatchCause {
    /// The operating system's error number, 0 where there is none.
    pub errno: i32,
    /// The error in words.
    pub error: String,
}

impl From<&io::Error> for LatchCause {
    fn from(error: &io::Error) -> Self {
        LatchCause {
            errno: error.raw_os_error().unwrap_or(0),
            error: error.to_string(),
        }
    }
}

impl fmt::Display for LatchCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

/// The latch itself: a policy and the first cause.
#[derive(Debug, Default)]
pub(crate) struct Latch {
    policy: SyncErrorPolicy,
    cause: Option<LatchCause>,
    /// A sync has failed, and no flush of the guest was told.
    owed: bool,
}

impl Latch {
    pub(crate) fn new(policy: SyncErrorPolicy, cause: Option<LatchCause>, owed: bool) -> Self {
        Latch {
            policy,
            cause,
            owed,
        }
    }

    pub(crate) fn cause(&self) -> Option<&LatchCause> {
        self.cause.as_ref()
    }

    pub(crate) fn is_set(&self) -> bool {
        self.cause.is_some()
    }

    /// Takes note of a failed sync. True if this one set the latch.
    pub(crate) fn record(&mut self, cause: &LatchCause) -> bool {
        if self.policy == SyncErrorPolicy::Report || self.cause.is_some() {
            return false;
        }
        self.cause = Some(cause.clone());
        true
    }

    /// A failed sync has no batch that could say so: the next one fails. The
    /// kernel reports an error once, so the storage would not say it again.
    pub(crate) fn owe(&mut self) {
        self.owed = self.policy == SyncErrorPolicy::Report;
    }

    pub(crate) fn is_owed(&self) -> bool {
        self.owed
    }

    /// Whether the next batch fails whatever the storage says.
    pub(crate) fn take_failure(&mut self) -> bool {
        mem::take(&mut self.owed) || self.is_set()
    }

    pub(crate) fn clear(&mut self) -> Option<LatchCause> {
        self.owed = false;
        self.cause.take()
    }
}
