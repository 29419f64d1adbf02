// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! A guest, a file and a host to test with: only with the feature `test-utils`.
//!
//! Everything here panics when a test's expectation is not met, and waits for
//! events, with [`PATIENCE`], rather than for time to pass.

mod driver;
mod file;
mod host;

pub use driver::{BUFFERS, Desc, GuestDriver, MEMORY_SIZE, NEXT, PENDING, STATUS_OFFSET, WRITE};
pub use file::HeldFile;
pub use host::{Interrupts, PATIENCE, Recorder, TestDevice, TestQueue, is_readable, within};
