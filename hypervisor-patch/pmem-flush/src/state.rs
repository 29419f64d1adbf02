// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! What a snapshot keeps of a device.

use serde::{Deserialize, Serialize};

use crate::counters::Counters;
use crate::latch::LatchCause;
use crate::stamp::FileStamp;

/// A device's saved state. Its queue is the transport's: at the time of a
/// snapshot every popped request has been pushed, so both ring indices can be
/// taken from `used.idx`.
///
/// A field that an older snapshot lacks takes its default.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct EngineState {
    /// The counters.
    pub counters: Counters,
    /// The error latch's cause, if it is set (a snapshot by override).
    pub latch: Option<LatchCause>,
    /// True if a host sync has failed and no flush has said so yet.
    pub error_owed: bool,
    /// True if the ring was inconsistent.
    pub needs_reset: bool,
    /// The file's stamp after the snapshot's sync, see
    /// [`FileStamp::check`]. None if none was taken since the last resume.
    pub stamp: Option<FileStamp>,
}
