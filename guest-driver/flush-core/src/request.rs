// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! The request as it lies in memory, and how an answer to it is judged.

use crate::error::Error;
use crate::sync::{AtomicU32, Ordering};

/// VIRTIO_PMEM_REQ_TYPE_FLUSH (virtio 1.4, pmem device, driver requests).
const FLUSH: u32 = 0;

/// What the status field holds until the host writes it: failure.
const PRESET: u32 = u32::MAX;

/// Bytes of the status field: what the host must have written.
const STATUS_LEN: u32 = 4;

/// One flush request and its answer, shared with the host.
///
/// The driver puts the two fields into the ring as two buffers of four bytes:
/// first [`Request::command`], which the host reads, then [`Request::status`],
/// which it writes. Both are little-endian. Requests live inside
/// [`FlushCore`](crate::FlushCore), so that one must lie in memory that a device can reach
/// (kmalloc'ed, neither on a stack nor vmalloc'ed).
///
/// # Invariants
///
/// The status is failure from before the request is published until the host
/// writes it. All access is relaxed: the ring's barriers and the lock order it.
#[derive(Debug)]
#[cfg_attr(not(loom), repr(C, align(64)))]
pub struct Request {
    command: AtomicU32,
    status: AtomicU32,
}

impl Request {
    pub(crate) fn new() -> Self {
        Self {
            command: AtomicU32::new(FLUSH.to_le()),
            status: AtomicU32::new(PRESET.to_le()),
        }
    }

    /// The request type: four bytes that the host reads.
    #[must_use]
    pub const fn command(&self) -> &AtomicU32 {
        &self.command
    }

    /// The status: four bytes that the host writes.
    #[must_use]
    pub const fn status(&self) -> &AtomicU32 {
        &self.status
    }

    /// Sets the status to failure, before the request is published.
    pub(crate) fn prepare(&self) {
        if !mutant!("status-not-preset") {
            self.status.store(PRESET.to_le(), Ordering::Relaxed);
        }
    }

    /// Judges the answer, once the ring has given the buffer back.
    pub(crate) fn answer(&self, len: u32) -> Result<(), Error> {
        verdict(u32::from_le(self.status.load(Ordering::Relaxed)), len)
    }
}

/// What a host's answer means: `status` as it wrote it (native byte order) and
/// `len`, the used length in bytes.
///
/// # Errors
///
/// [`Error::Short`] if less than the whole status was written, else
/// [`Error::Host`] if the status is not 0.
pub fn verdict(status: u32, len: u32) -> Result<(), Error> {
    if len < STATUS_LEN && !mutant!("length-ignored") {
        Err(Error::Short)
    } else if status == 0 {
        Ok(())
    } else {
        Err(Error::Host)
    }
}
