// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! The snapshot's sync of the file, as the coordinator sees it.

use std::task::Poll;
use std::time::Instant;
use std::{io, mem};

use crate::coordinator::Ticket;
use crate::error::Error;
use crate::latch::LatchCause;
use crate::stamp::FileStamp;

/// What the worker found.
#[derive(Debug)]
pub(crate) struct FileOutcome {
    pub(crate) sync: io::Result<()>,
    pub(crate) stamp: io::Result<FileStamp>,
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    ticket: Ticket,
    deadline: Instant,
    allow_unsynced: bool,
}

/// At most one file sync is asked for at a time. One that nobody waits for any
/// more may still be in the worker's hand; its ticket tells it from ours.
#[derive(Debug, Default)]
pub(crate) enum FileSync {
    #[default]
    None,
    /// The worker has not taken it up, perhaps it is at an older order.
    Wanted(Wanted),
    /// It is in the worker's hand.
    Running(Wanted),
    Done(Wanted, FileOutcome),
    /// The device was resumed first.
    Abandoned,
}

impl FileSync {
    pub(crate) fn begin(
        &mut self,
        ticket: Ticket,
        deadline: Instant,
        allow_unsynced: bool,
    ) -> Result<(), Error> {
        if matches!(self, FileSync::Wanted(_) | FileSync::Running(_)) {
            return Err(Error::FileSyncBusy);
        }
        *self = FileSync::Wanted(Wanted {
            ticket,
            deadline,
            allow_unsynced,
        });
        Ok(())
    }

    /// The ticket of a sync that the worker should take up.
    pub(crate) fn wanted(&self) -> Option<Ticket> {
        match self {
            FileSync::Wanted(wanted) => Some(wanted.ticket),
            _ => None,
        }
    }

    pub(crate) fn started(&mut self) {
        if let FileSync::Wanted(wanted) = *self {
            *self = FileSync::Running(wanted);
        }
    }

    /// Takes the worker's report. False if nobody waits for this one.
    pub(crate) fn done(&mut self, ticket: Ticket, outcome: FileOutcome) -> bool {
        match *self {
            FileSync::Running(wanted) if wanted.ticket == ticket => {
                *self = FileSync::Done(wanted, outcome);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn abandon(&mut self) {
        *self = match mem::take(self) {
            FileSync::None => FileSync::None,
            _ => FileSync::Abandoned,
        };
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            FileSync::Wanted(wanted) | FileSync::Running(wanted) => Some(wanted.deadline),
            _ => None,
        }
    }

    /// The result, once. `latch` is what the file's latch holds by now: a sync
    /// that succeeds after another has failed proves nothing.
    pub(crate) fn poll(
        &mut self,
        now: Instant,
        latch: Option<&LatchCause>,
    ) -> Poll<Result<Option<FileStamp>, Error>> {
        match mem::take(self) {
            FileSync::None => Poll::Ready(Err(Error::NoFileSync)),
            FileSync::Abandoned => Poll::Ready(Err(Error::NotQuiesced)),
            FileSync::Done(wanted, outcome) => Poll::Ready(judge(wanted, outcome, latch)),
            pending @ (FileSync::Wanted(wanted) | FileSync::Running(wanted)) => {
                if now < wanted.deadline {
                    *self = pending;
                    return Poll::Pending;
                }
                Poll::Ready(if wanted.allow_unsynced {
                    Ok(None)
                } else {
                    Err(Error::FileSyncTimedOut)
                })
            }
        }
    }
}

fn judge(
    wanted: Wanted,
    outcome: FileOutcome,
    latch: Option<&LatchCause>,
) -> Result<Option<FileStamp>, Error> {
    if wanted.allow_unsynced {
        return Ok(outcome.stamp.ok());
    }
    outcome.sync.map_err(Error::FileSync)?;
    if let Some(cause) = latch {
        return Err(Error::Latched(cause.clone()));
    }
    outcome.stamp.map(Some).map_err(Error::Stamp)
}
