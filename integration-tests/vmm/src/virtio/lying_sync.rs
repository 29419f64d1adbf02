// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Storage that says "synced" when it is not: what a power cut has to show.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use pmem_flush::{FileStamp, SyncBackend};

use crate::config::SyncLie;

/// A file whose flushes are a lie. A snapshot's sync is an honest one.
pub struct LyingSync {
    file: File,
    lie: Lie,
}

enum Lie {
    Early(Mutex<Sender<()>>),
    No,
    Range,
}

impl LyingSync {
    /// Lies about `file`.
    ///
    /// # Errors
    /// No thread or descriptor left.
    pub fn new(file: File, lie: SyncLie) -> io::Result<Self> {
        let lie = match lie {
            SyncLie::No => Lie::No,
            SyncLie::Range => Lie::Range,
            SyncLie::Early => {
                let (orders, inbox) = channel();
                let late = file.try_clone()?;
                thread::Builder::new()
                    .name("late-sync".into())
                    .spawn(move || {
                        for () in inbox {
                            if let Err(e) = late.sync_data() {
                                log::error!("a sync after its answer failed: {e}");
                            }
                        }
                    })?;
                Lie::Early(Mutex::new(orders))
            }
        };
        Ok(Self { file, lie })
    }
}

impl SyncBackend for LyingSync {
    fn sync_data(&self) -> io::Result<()> {
        match &self.lie {
            Lie::No => Ok(()),
            Lie::Early(orders) => orders
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .send(())
                .map_err(io::Error::other),
            Lie::Range => write_back(&self.file),
        }
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn stamp(&self) -> io::Result<FileStamp> {
        FileStamp::of(&self.file)
    }
}

/// Hands all dirty pages to the disk and waits until it has them: in its cache.
fn write_back(file: &File) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: the call takes no pointer; the descriptor is borrowed from a live file.
    let done = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lie_says_synced() {
        for lie in [SyncLie::No, SyncLie::Range, SyncLie::Early] {
            let sync = LyingSync::new(tempfile::tempfile().unwrap(), lie).unwrap();
            sync.sync_data().unwrap();
            sync.sync_all().unwrap();
        }
    }
}
