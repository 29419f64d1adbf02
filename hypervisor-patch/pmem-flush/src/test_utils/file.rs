// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! A real file whose syncs a test can hold, fail and count.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::backend::SyncBackend;
use crate::stamp::FileStamp;
use crate::test_utils::host::PATIENCE;

#[derive(Debug, Default)]
struct Gate {
    held: bool,
    begun: u64,
    ended: u64,
    now: u64,
    most: u64,
    failures: VecDeque<i32>,
}

/// Each sync reaches the file when nothing holds it, and then fails if a
/// failure was asked for.
#[derive(Debug)]
pub struct HeldFile {
    file: File,
    gate: Mutex<Gate>,
    changed: Condvar,
}

impl HeldFile {
    /// A file whose syncs pass.
    pub fn new(file: File) -> Self {
        HeldFile {
            file,
            gate: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds every sync from now on, like a disk that has stopped to answer.
    pub fn hold(&self) {
        self.gate().held = true;
    }

    /// Lets held and later syncs pass.
    pub fn release(&self) {
        self.gate().held = false;
        self.changed.notify_all();
    }

    /// Fails one more sync with `errno`; in order, after the earlier ones.
    pub fn fail_next(&self, errno: i32) {
        self.gate().failures.push_back(errno);
    }

    /// How many syncs have begun.
    pub fn begun(&self) -> u64 {
        self.gate().begun
    }

    /// How many syncs have ended.
    pub fn ended(&self) -> u64 {
        self.gate().ended
    }

    /// The most syncs that ran at once.
    pub fn most_at_once(&self) -> u64 {
        self.gate().most
    }

    /// Waits until `count` syncs have begun.
    pub fn wait_begun(&self, count: u64) {
        let (gate, _) = self
            .changed
            .wait_timeout_while(self.gate(), PATIENCE, |gate| gate.begun < count)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(gate.begun >= count, "sync {count} never began");
    }

    fn pass(&self, sync: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        let mut gate = self.gate();
        gate.begun += 1;
        gate.now += 1;
        gate.most = gate.most.max(gate.now);
        self.changed.notify_all();
        while gate.held {
            gate = self
                .changed
                .wait(gate)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let failure = gate.failures.pop_front();
        drop(gate);
        let result = sync(&self.file);
        let mut gate = self.gate();
        gate.now -= 1;
        gate.ended += 1;
        failure.map_or(result, |errno| Err(io::Error::from_raw_os_error(errno)))
    }
}

impl SyncBackend for HeldFile {
    fn sync_data(&self) -> io::Result<()> {
        self.pass(File::sync_data)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.pass(File::sync_all)
    }

    fn stamp(&self) -> io::Result<FileStamp> {
        FileStamp::of(&self.file)
    }
}
