// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The storage below a pmem file breaks, in each way that storage has: what the guest sees,
//! what the VMM says, and how it comes back. docs/faults.md has the table.

mod errors;
mod file;
mod pages;
mod subject;
mod waits;

pub use errors::{eio_for_ever, eio_once, enospc, read_only, unplugged};
pub use file::unlinked;
pub use pages::{bad_page, hole, truncated};
pub use waits::{hung, slow};
