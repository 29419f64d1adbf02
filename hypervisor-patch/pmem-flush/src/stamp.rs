// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! The stamp that ties a snapshot to the file it was taken with.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

use crate::config::SyncMode;

/// Size and time of the last modification of a backing file.
///
/// Taken after the snapshot's sync, when every page is clean: the guest's next
/// write to a shared mapping then moves the time (on filesystems that write
/// back; a tmpfs or hugetlbfs file keeps its time). The inode is not part of
/// it, so that a copy which keeps its times fits. A block device has no such
/// time: its node's says when the host made it, and is taken as 0.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FileStamp {
    /// Size in bytes.
    pub size: u64,
    /// Seconds of the last modification since the epoch.
    pub mtime: i64,
    /// Its nanoseconds.
    pub mtime_nsec: i64,
}

impl FileStamp {
    /// The stamp of an open file, whose offset a device's moves.
    ///
    /// # Errors
    ///
    /// The file's metadata, or a device's size, can't be read.
    pub fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if metadata.is_file() {
            return Ok(FileStamp {
                size: metadata.len(),
                mtime: metadata.mtime(),
                mtime_nsec: metadata.mtime_nsec(),
            });
        }
        // What a node's metadata say of its size is 0.
        let mut node = file;
        Ok(FileStamp {
            size: node.seek(SeekFrom::End(0))?,
            mtime: 0,
            mtime_nsec: 0,
        })
    }

    /// Checks that a file still is what the snapshot was taken with.
    ///
    /// `self` is the stamp in the snapshot, `now` the one of the file that is
    /// to be restored on, `allow_stale` the user's override. With
    /// [`SyncMode::Skip`] only the sizes count: the guest can't have changed the
    /// file, and each host may have a copy of its own with a time of its own.
    ///
    /// # Errors
    ///
    /// The file has moved on. The message contains the word `stale`.
    pub fn check(
        &self,
        now: &FileStamp,
        sync: SyncMode,
        allow_stale: bool,
    ) -> Result<(), StaleFileError> {
        let fits = match sync {
            SyncMode::File => self == now,
            SyncMode::Skip => self.size == now.size,
        };
        if fits || allow_stale {
            return Ok(());
        }
        Err(StaleFileError {
            expected: *self,
            found: *now,
        })
    }
}

impl fmt::Display for FileStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes, modified at {}.{:09}",
            self.size, self.mtime, self.mtime_nsec
        )
    }
}

/// The file is not what the snapshot was taken with.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("stale backing file: the snapshot was taken with {expected}, the file has {found}")]
pub struct StaleFileError {
    /// The stamp in the snapshot.
    pub expected: FileStamp,
    /// The stamp of the file.
    pub found: FileStamp,
}
