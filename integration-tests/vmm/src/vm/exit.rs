// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The note a vCPU leaves when the guest ended.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, PoisonError};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::VmError;
use crate::machine::GuestExit;

/// Why the guest ended: the first reason counts.
pub struct ExitNote {
    reason: Mutex<Option<GuestExit>>,
    event: EventFd,
}

impl ExitNote {
    /// An empty note.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn new() -> Result<Self, VmError> {
        Ok(Self {
            reason: Mutex::new(None),
            event: EventFd::new(EFD_NONBLOCK)
                .map_err(|e| VmError::Host("cannot create an event descriptor", e))?,
        })
    }

    /// Leaves a reason, unless there is one.
    pub fn set(&self, reason: GuestExit) {
        self.reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(reason);
        if let Err(e) = self.event.write(1)
            && e.kind() != io::ErrorKind::WouldBlock
        {
            log::error!("cannot tell that the guest ended: {e}");
        }
    }

    /// The reason, once there is one.
    pub fn get(&self) -> Option<GuestExit> {
        self.reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Readable once there is a reason; stays so.
    pub fn fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}
