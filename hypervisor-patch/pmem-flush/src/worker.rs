// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! The third room: the one thread that waits for storage.

use std::sync::{Arc, mpsc};
#[cfg(feature = "fault-injection")]
use std::time::Duration;
use std::time::Instant;
use std::{io, thread};

use seccompiler::{BpfProgram, apply_filter};

use crate::backend::SyncBackend;
use crate::coordinator::{JobKind, Report};
use crate::error::Error;
use crate::file_sync::FileOutcome;
use crate::handshake::Shared;
use crate::latch::LatchCause;
use crate::private::PrivatePages;

/// What the worker is made of.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) backend: Arc<dyn SyncBackend>,
    pub(crate) private: Option<PrivatePages>,
    /// All apply; an empty one is none.
    pub(crate) filters: Vec<BpfProgram>,
    #[cfg(feature = "fault-injection")]
    pub(crate) late: Option<Duration>,
}

impl Worker {
    /// Starts the thread; returns when it runs under its filter. Nobody ever
    /// joins it: it may hang in a sync for as long as the storage likes.
    pub(crate) fn spawn(self) -> Result<(), Error> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let name = format!("{}-flush", self.shared.id());
        thread::Builder::new()
            .name(name)
            .spawn(move || {
                let mut filters = self.filters.iter().filter(|filter| !filter.is_empty());
                let filtered = filters
                    .try_for_each(|filter| apply_filter(filter))
                    .map_err(Error::ApplyFilter);
                let run = filtered.is_ok();
                let _ = sender.send(filtered);
                drop(sender);
                if run {
                    self.run();
                }
            })
            .map_err(Error::SpawnWorker)?;
        receiver
            .recv()
            .unwrap_or_else(|error| Err(Error::SpawnWorker(io::Error::other(error))))
    }

    fn run(&self) {
        while let Some(job) = self.shared.next_job() {
            let started = Instant::now();
            let report = self.report(job.kind);
            let took = started.elapsed();
            #[cfg(feature = "fault-injection")]
            if let (Some(time), JobKind::Flush) = (self.late, job.kind) {
                self.shared.delay(time);
            }
            self.shared.job_done(job, report, took);
        }
    }

    fn report(&self, kind: JobKind) -> Report {
        match kind {
            JobKind::Flush => {
                let result = self.backend.sync_data();
                Report::Flush(result.map_err(|error| LatchCause::from(&error)))
            }
            JobKind::File { sync } => Report::File(FileOutcome {
                written: self.private.as_ref().map_or(Ok(0), PrivatePages::written),
                sync: if sync {
                    self.backend.sync_all()
                } else {
                    Ok(())
                },
                stamp: self.backend.stamp(),
            }),
        }
    }
}
