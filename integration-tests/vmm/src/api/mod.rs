// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! cloud-hypervisor's REST API on a Unix socket.
//!
//! The server's thread turns HTTP into [`Request`]s and back; the control loop answers
//! them. Requests of different connections do not wait for each other: while a pause
//! is under way, `vmm.ping`, `vm.info` and `vm.counters` are answered.

mod error;
mod request;
mod routes;
mod server;
mod socket;

pub use self::error::{ApiError, VmError};
pub use self::request::{
    Action, Answer, Mailbox, Outbox, Reply, Request, SnapshotConfig, VmInfo, VmState, mailbox,
};
pub use self::server::{ApiServer, ServerError};
pub use self::socket::{ApiSocket, SocketError};
