// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! Durable, drainable flush engine for a virtio-pmem device.
//!
//! A virtio-pmem device maps a host file into the guest's memory. The guest
//! writes there without the device's knowledge; a flush request asks that what
//! was written be durable before the request is answered. This crate is the
//! device's way from such a request to its answer. It has no type of a VMM in
//! it: transport, interrupts, address translation and events come in by traits.
//!
//! # The way of a request
//!
//! ```text
//!  guest          device thread            worker           management
//!    │ kick             │                     │                  │
//!    ├─────────────────►│ device: pop all     │                  │
//!    │                  │ protocol: parse     │                  │
//!    │                  │ coordinator: close  │                  │
//!    │                  │   the batch ───────►│ fdatasync        │
//!    │ kick             │                     │                  │ begin_drain
//!    ├─────────────────►│ (stays in the ring) │                  │◄──────────
//!    │                  │ device: push all  ◄─┤ done             │
//!    │◄─────────────────┤ one interrupt       │                  │
//!    │                  │ coordinator: ──────────────────────────► quiesced
//! ```
//!
//! Four rooms, in this order:
//!
//! - [`protocol`]: a descriptor chain in, a request out; a result in, a status
//!   out. Pure.
//! - `coordinator`: what happens next. While a sync runs nothing is popped, so
//!   that no request is answered by a sync that began before it: closed batches
//!   by structure. Also holds drain, file sync, latch and generations. Pure:
//!   time and events are arguments.
//! - `worker`: one thread with a seccomp filter of its own, which waits for the
//!   storage. It belongs to the file, not to an activation: the guest may reset
//!   the device while a sync hangs, and the late result then reaches nobody,
//!   except that its error is latched.
//! - `device`: the queue side, [`FlushQueue`].
//!
//! `handshake` ties the threads together with one lock, which is never held
//! during a sync, at guest memory or in an observer. It is model-checked with
//! loom as it is.
//!
//! # What the guest can rely on
//!
//! Success means that a host sync which began after the request was popped has
//! ended well, and that none has failed since the file was opened (unless the
//! user chose [`SyncErrorPolicy::Report`]). A malformed chain gets an error
//! status if it has room for one, else a used length of 0. An inconsistent ring
//! sets `DEVICE_NEEDS_RESET` and parks the queue.
//!
//! # Hosting it
//!
//! 1. At device creation, on a thread whose own seccomp filter allows what
//!    [`worker_rules`] lists: lock the file ([`FileLock`]), warn of holes
//!    ([`unallocated_bytes`]) or fill them ([`preallocate`]), then
//!    [`FlushEngine::new`], or [`FileStamp::check`] and [`FlushEngine::restore`].
//! 2. When the driver is ready: [`FlushEngine::activate`]. Put the two event
//!    descriptors of the [`FlushQueue`] into the device thread's epoll set and
//!    call its two `on_*_event` methods. Call [`FlushQueue::on_queue_event`] once
//!    at the start: both descriptors outlive an activation, so an earlier one's
//!    queue may have read the event that was meant for this one.
//! 3. Driver's reset, unplug: drop the [`FlushQueue`], or, from another thread,
//!    [`FlushEngine::reset`].
//! 4. Pause: [`FlushEngine::begin_drain`] on every device with one deadline, then
//!    [`FlushEngine::wait_drain`] (or [`FlushEngine::poll_drain`] upon
//!    [`FlushEngine::management_evt`]) on each. If one fails, [`FlushEngine::resume`]
//!    on all: the VM goes on.
//! 5. Snapshot, when every device is parked: [`FlushEngine::sync_file`] (or its
//!    two non-blocking halves), then [`FlushEngine::save`]. Of a private mapping
//!    this reads /proc/self/pagemap and /proc/self/mem, on the calling thread: its
//!    filter needs lseek, read and pread64, and openat when the engine is made.
//! 6. Resume: [`FlushEngine::resume`].
//! 7. Reboot of the guest with new devices: hand [`FlushEngine::latch`] on, with
//!    [`FlushEngine::set_latch`].

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
mod private;
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
pub use private::{PrivateMapping, PrivateMemory};
pub use seccomp::{WorkerSeccomp, worker_rules};
pub use signal::Signal;
pub use sparse::{preallocate, unallocated_bytes};
pub use stamp::{FileStamp, StaleFileError};
pub use state::EngineState;
pub use translate::{Identity, Translate};
