// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `--pmem …,fault=…`: a device with a bad character, for tests of the guest's driver.

use serde::{Deserialize, Serialize};

/// What the device does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Fault {
    /// A flush is never answered.
    Silent,
    /// A flush is answered so many milliseconds late.
    Late {
        /// The delay in milliseconds.
        ms: u64,
    },
    /// A flush is answered twice.
    Double,
    /// The used entry names a descriptor the driver never sent.
    BadCookie,
    /// The used entry says that nothing was written.
    Len0,
    /// A flush is answered with this status.
    Status {
        /// The status word as the driver reads it.
        code: u32,
    },
}
