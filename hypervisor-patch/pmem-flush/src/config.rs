// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! What a host chooses when it makes a device.

use std::time::Duration;

#[cfg(feature = "fault-injection")]
use crate::fault::Fault;
use crate::latch::SyncErrorPolicy;
use crate::private::PrivateMapping;
use crate::seccomp::WorkerSeccomp;

/// How long a pause waits for the running sync if the user says nothing.
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether a flush needs the storage.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SyncMode {
    /// The guest writes into the file through a shared mapping: a flush is a
    /// host sync.
    #[default]
    File,
    /// Nothing the guest writes gets into the file (a private mapping, a
    /// read-only file): a flush succeeds at once.
    Skip,
}

/// A device's configuration.
#[derive(Clone, Debug, Default)]
pub struct EngineConfig {
    /// The device's id: in events, log lines and the worker thread's name.
    pub id: String,
    /// Whether a flush needs the storage.
    pub sync: SyncMode,
    /// Where the guest's writes go if not into the file (`discard_writes=on`): a
    /// snapshot asks whether there are any. None if the guest can't write.
    pub private: Option<PrivateMapping>,
    /// What happens after a failed host sync.
    pub sync_error: SyncErrorPolicy,
    /// The worker's seccomp filter.
    pub seccomp: WorkerSeccomp,
    /// The device's bad character, for testing guest drivers.
    #[cfg(feature = "fault-injection")]
    pub fault: Option<Fault>,
}

impl EngineConfig {
    /// The defaults for the device `id`: file syncs, latch, filter on.
    pub fn new(id: impl Into<String>) -> Self {
        EngineConfig {
            id: id.into(),
            ..Default::default()
        }
    }
}
