// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What travels between the API server and the control loop.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::ApiError;
use crate::config::{RestoreConfig, VmConfig};

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `vmm.ping`
    Ping,
    /// `vm.info`
    Info,
    /// `vm.counters`
    Counters,
    /// `vm.pause`
    Pause,
    /// `vm.resume`
    Resume,
    /// `vm.snapshot`
    Snapshot(SnapshotConfig),
    /// `vm.restore`
    Restore(RestoreConfig),
    /// `vm.power-button`
    PowerButton,
    /// `vm.shutdown`
    Shutdown,
    /// `vmm.shutdown`
    VmmShutdown,
}

/// The body of `vm.snapshot`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SnapshotConfig {
    /// `file:///dir`; the directory has to exist.
    pub destination_url: String,
    /// Takes the snapshot although a pmem file's last sync failed or fails.
    #[serde(default)]
    pub allow_unsynced_pmem: bool,
}

/// A machine's state, as `vm.info` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum VmState {
    /// Configured, not there.
    Created,
    /// The guest runs, or a pause is under way.
    Running,
    /// Everything is parked.
    Paused,
}

/// The answer to `vm.info`.
#[derive(Debug, Serialize)]
pub struct VmInfo<'a> {
    /// What the user asked for.
    pub config: &'a VmConfig,
    /// What the machine is doing.
    pub state: VmState,
    /// Bytes of RAM.
    pub memory_actual_size: u64,
}

/// What a client gets: JSON, or nothing but the good news.
pub type Answer = Result<Option<Value>, ApiError>;

/// Takes the one answer to a request. Dropping it ends the wait with an error.
#[derive(Debug)]
pub struct Reply(oneshot::Sender<Answer>);

impl Reply {
    /// A reply and the end at which it arrives.
    #[must_use]
    pub fn new() -> (Self, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Answers. A client that has gone misses it.
    pub fn send(self, answer: Answer) {
        self.0.send(answer).ok();
    }
}

/// A request on its way to the control loop.
#[derive(Debug)]
pub struct Request {
    /// What is asked for.
    pub action: Action,
    /// Where the answer goes.
    pub reply: Reply,
}

/// The control loop's end.
#[derive(Debug)]
pub struct Mailbox {
    requests: Receiver<Request>,
    event: Arc<EventFd>,
}

/// The API server's end.
#[derive(Clone, Debug)]
pub struct Outbox {
    requests: Sender<Request>,
    event: Arc<EventFd>,
}

/// Both ends.
///
/// # Errors
/// No file descriptor.
pub fn mailbox() -> io::Result<(Mailbox, Outbox)> {
    let event = Arc::new(EventFd::new(EFD_NONBLOCK)?);
    let (sender, receiver) = channel();
    Ok((
        Mailbox {
            requests: receiver,
            event: event.clone(),
        },
        Outbox {
            requests: sender,
            event,
        },
    ))
}

impl Mailbox {
    /// Readable when there are requests.
    #[must_use]
    pub fn event(&self) -> &EventFd {
        &self.event
    }

    /// All requests that have arrived.
    pub fn take(&self) -> Vec<Request> {
        // First the event, then the requests: one that comes in between raises it again.
        self.event.read().ok();
        self.requests.try_iter().collect()
    }
}

impl Outbox {
    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// What the control loop says, or that it has ended.
    pub async fn ask(&self, action: Action) -> Answer {
        let (reply, answer) = Reply::new();
        self.requests
            .send(Request { action, reply })
            .map_err(|_| ApiError::Ending)?;
        self.event.write(1).map_err(|_| ApiError::Ending)?;
        answer.await.unwrap_or(Err(ApiError::Ending))
    }
}
