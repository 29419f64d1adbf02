// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! What the worker calls.

use std::fs::File;
use std::io;

use crate::stamp::FileStamp;

/// The storage behind a device. Called on the worker thread only, one call at
/// a time, under [`worker_rules`](crate::worker_rules).
pub trait SyncBackend: Send + Sync {
    /// Makes what was written durable: fdatasync(2). For a guest's flush.
    ///
    /// # Errors
    ///
    /// Some of it may not be durable.
    fn sync_data(&self) -> io::Result<()>;

    /// The same with the file's times: fsync(2). For a snapshot, whose stamp
    /// holds one of them.
    ///
    /// # Errors
    ///
    /// Some of it may not be durable.
    fn sync_all(&self) -> io::Result<()>;

    /// The file's stamp at this moment.
    ///
    /// # Errors
    ///
    /// The file's metadata can't be read.
    fn stamp(&self) -> io::Result<FileStamp>;
}

impl SyncBackend for File {
    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        File::sync_all(self)
    }

    fn stamp(&self) -> io::Result<FileStamp> {
        FileStamp::of(self)
    }
}
