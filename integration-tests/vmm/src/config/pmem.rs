// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `--pmem file=…,…`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[cfg(feature = "fault")]
use super::fault::Fault;
use super::options::{ConfigError, Options};

/// How long a pause, a reset or a snapshot waits for the device, if the user does not say.
pub const DEFAULT_DRAIN_TIMEOUT_SECONDS: u64 = 30;

/// What a failed host sync means for later flushes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum SyncError {
    /// Every later flush fails too.
    #[default]
    Latch,
    /// The failure is reported once, to the flushes it belongs to.
    Report,
}

/// One persistent memory device.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PmemConfig {
    /// The device's name in events and counters; never empty, unique.
    pub id: String,
    /// The backing file.
    pub file: PathBuf,
    /// The device's size in bytes, a multiple of 2 MiB; the file's size if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Guest writes stay in memory and never reach the file.
    #[serde(default)]
    pub discard_writes: bool,
    /// Seconds a drain may take.
    pub drain_timeout: u64,
    /// What a failed host sync means for later flushes.
    #[serde(default)]
    pub sync_error: SyncError,
    /// The device's bad character.
    #[cfg(feature = "fault")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}
