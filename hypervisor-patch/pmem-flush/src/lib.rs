// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! Durable, drainable flush engine for a virtio-pmem device.
//!
//! # Hosting it
//!
//! 1. At device creation, on a thread whose own seccomp filter allows what
//!    [`worker_rules`] lists: lock the file ([`FileLock`]), warn of holes
//!    ([`unallocated_bytes`]) or fill them ([`preallocate`]), then
//!    [`FlushEngine::new`], or [`FileStamp::check`] and [`FlushEngine::restore`].
//! 2. When the driver is ready: [`FlushEngine::activate`]. Put the two event
//!    descriptors of the [`FlushQueue`] into the device thread's epoll set and
//!    call its two `on_*_event` methods.
//! 3. Driver's reset, unplug: drop the [`FlushQueue`], or, from another thread,
//!    [`FlushEngine::reset`].
//! 4. Pause: [`FlushEngine::begin_drain`] on every device with one deadline, then
//!    [`FlushEngine::wait_drain`] (or [`FlushEngine::poll_drain`] upon
//!    [`FlushEngine::management_evt`]) on each. If one fails, [`FlushEngine::resume`]
//!    on all: the VM goes on.
//! 5. Snapshot, when every device is parked: [`FlushEngine::sync_file`] (or its
//!    two non-blocking halves), then [`FlushEngine::save`].
//! 6. Resume: [`FlushEngine::resume`].

#![deny(missing_docs)]
// The model has no device and no worker thread, so their helpers are unused.
#![cfg_attr(loom, allow(dead_code))]

mod backend;
mod config;
mod coordinator;
mod counters;
#[cfg(not(loom))]
mod device;
#[cfg(not(loom))]
mod engine;
mod error;
mod event;
#[cfg(feature = "fault-injection")]
mod fault;
mod file_sync;
mod handshake;
mod latch;
mod lock;
#[cfg(all(test, loom))]
mod model;
pub mod protocol;
mod seccomp;
mod signal;
mod sparse;
mod stamp;
mod state;
mod sync;
#[cfg(all(feature = "test-utils", not(loom)))]
pub mod test_utils;
mod translate;
#[cfg(not(loom))]
mod worker;

pub use backend::SyncBackend;
pub use config::{DEFAULT_DRAIN_TIMEOUT, EngineConfig, SyncMode};
pub use coordinator::{DeviceState, DrainStatus};
pub use counters::{COUNTER_COUNT, Counters};
#[cfg(not(loom))]
pub use device::{Activation, FlushQueue};
#[cfg(not(loom))]
pub use engine::FlushEngine;
pub use error::Error;
pub use event::{Event, Observer};
#[cfg(feature = "fault-injection")]
pub use fault::{DEFAULT_LATE, Fault, ParseFaultError};
pub use latch::{LatchCause, ParsePolicyError, SyncErrorPolicy};
pub use lock::{FileLock, LockError, LockKind};
pub use seccomp::{WorkerSeccomp, worker_rules};
pub use signal::Signal;
pub use sparse::{preallocate, unallocated_bytes};
pub use stamp::{FileStamp, StaleFileError};
pub use state::EngineState;
pub use translate::{Identity, Translate};
