// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Stops between the bad ring and the reset, so that something can be done to the VM while
//! its device is in that state.

use std::fs::{self, File};
use std::io::Read;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::hostile::HostileError;

/// A byte written into this pipe lets the program go on. It is there as long as the program
/// can be held.
pub const HOLD: &str = "/run/hostile-hold";

/// The pipe; dropping it removes it.
pub(super) struct Hold;

impl Hold {
    pub(super) fn new() -> Result<Self, HostileError> {
        // What a killed program left.
        let _ = fs::remove_file(HOLD);
        mkfifo(HOLD, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|error| HostileError::io(format!("make {HOLD}"))(error.into()))?;
        Ok(Self)
    }

    /// Waits for the byte.
    pub(super) fn wait(self) -> Result<(), HostileError> {
        File::open(HOLD)
            .and_then(|mut pipe| pipe.read_exact(&mut [0]))
            .map_err(HostileError::io(format!("read {HOLD}")))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = fs::remove_file(HOLD);
    }
}
