// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! Every way the engine can say no.

use std::io;

use crate::latch::LatchCause;

/// The engine's errors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An event descriptor could not be made.
    #[error("event descriptor can't be made")]
    EventFd(#[source] io::Error),
    /// The worker thread could not be started.
    #[error("flush worker can't be started")]
    SpawnWorker(#[source] io::Error),
    /// The worker's seccomp filter could not be built.
    #[error("flush worker's seccomp filter can't be built")]
    BuildFilter(#[source] seccompiler::Error),
    /// The worker's seccomp filter could not be set.
    #[error("flush worker's seccomp filter can't be set")]
    ApplyFilter(#[source] seccompiler::Error),
    /// The device has a queue already; it must be reset first.
    #[error("device is active already")]
    AlreadyActive,
    /// The file can be synced for a snapshot only while the device is quiesced.
    #[error("file sync needs a quiesced device")]
    NotQuiesced,
    /// A file sync is under way already.
    #[error("a file sync is under way already")]
    FileSyncBusy,
    /// No file sync was begun, or its result was taken already.
    #[error("no file sync was begun")]
    NoFileSync,
    /// The device did not quiesce before its deadline. It goes on.
    #[error("drain timed out: the running host sync did not end in time")]
    DrainTimedOut,
    /// The drain was called off by a cancel or a resume.
    #[error("drain was called off")]
    DrainCancelled,
    /// The error latch is set: what the guest wrote may not be in the file.
    #[error("backing file is latched after a failed sync ({0})")]
    Latched(LatchCause),
    /// The snapshot's sync failed.
    #[error("backing file can't be synced")]
    FileSync(#[source] io::Error),
    /// The file's metadata can't be read.
    #[error("backing file's metadata can't be read")]
    Stamp(#[source] io::Error),
    /// The snapshot's sync did not end before its deadline. It still runs.
    #[error("file sync timed out: the storage did not answer in time")]
    FileSyncTimedOut,
    /// A snapshot would not hold what the guest wrote into a private mapping.
    #[error("guest has written {0} page(s) that no snapshot holds (discard_writes=on)")]
    DiscardedWrites(u64),
    /// Whether the guest wrote into a private mapping can't be told.
    #[error("whether the guest has written can't be told (discard_writes=on)")]
    PrivatePages(#[source] io::Error),
}
