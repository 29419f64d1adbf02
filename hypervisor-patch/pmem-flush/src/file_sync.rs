// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! The snapshot's sync of the file, as the coordinator sees it.

use std::task::Poll;
use std::time::Instant;
use std::{io, mem};

use crate::config::SyncMode;
use crate::coordinator::Ticket;
use crate::error::Error;
use crate::event::Event;
use crate::latch::LatchCause;
use crate::stamp::FileStamp;

/// What the worker found.
#[derive(Debug)]
pub(crate) struct FileOutcome {
    /// Pages of a private mapping that are not as the file has them.
    pub(crate) written: io::Result<u64>,
    pub(crate) sync: io::Result<()>,
    pub(crate) stamp: io::Result<FileStamp>,
}

/// A file sync's end, and the file's stamp then. None by override only.
pub(crate) type FilePoll = Poll<Result<Option<FileStamp>, Error>>;

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

    /// The result, once, and by override what it leaves out. `latch` is what the
    /// file's latch holds by now: a sync that succeeds after another has failed
    /// proves nothing.
    pub(crate) fn poll(
        &mut self,
        now: Instant,
        mode: SyncMode,
        latch: Option<&LatchCause>,
    ) -> (FilePoll, Option<Event>) {
        match mem::take(self) {
            FileSync::None => (Poll::Ready(Err(Error::NoFileSync)), None),
            FileSync::Abandoned => (Poll::Ready(Err(Error::NotQuiesced)), None),
            FileSync::Done(wanted, outcome) if wanted.allow_unsynced => {
                let lost = discarded(&outcome.written);
                (Poll::Ready(Ok(outcome.stamp.ok())), lost)
            }
            FileSync::Done(_, outcome) => (Poll::Ready(judge(outcome, latch)), None),
            pending @ (FileSync::Wanted(wanted) | FileSync::Running(wanted)) => {
                if now < wanted.deadline {
                    *self = pending;
                    return (Poll::Pending, None);
                }
                if !wanted.allow_unsynced {
                    return (Poll::Ready(Err(Error::FileSyncTimedOut)), None);
                }
                let unknown = Event::DiscardedWrites { pages: None };
                let lost = (mode == SyncMode::Skip).then_some(unknown);
                (Poll::Ready(Ok(None)), lost)
            }
        }
    }
}

/// What a snapshot by override does not hold.
fn discarded(written: &io::Result<u64>) -> Option<Event> {
    let pages = match written {
        Ok(0) => return None,
        Ok(pages) => Some(*pages),
        Err(_) => None,
    };
    Some(Event::DiscardedWrites { pages })
}

fn judge(outcome: FileOutcome, latch: Option<&LatchCause>) -> Result<Option<FileStamp>, Error> {
    match outcome.written.map_err(Error::PrivatePages)? {
        0 => {}
        pages => return Err(Error::DiscardedWrites(pages)),
    }
    outcome.sync.map_err(Error::FileSync)?;
    if let Some(cause) = latch {
        return Err(Error::Latched(cause.clone()));
    }
    outcome.stamp.map(Some).map_err(Error::Stamp)
}
