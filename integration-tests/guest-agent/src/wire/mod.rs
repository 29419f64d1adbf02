// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The records on the guest's first serial line (`ttyS0`), both ways.
//!
//! A record is byte 0x1E (RFC 7464's mark), one JSON object, and a line feed:
//!
//! ```text
//! <1E>{"seq":7,"crc":3735928559,"body":{...}}<LF>
//! ```
//!
//! `seq` counts the sender's records from 1, `crc` is the CRC-32 over `seq` (8 bytes, little
//! endian) and the text of `body`. Anything between a line feed and the next mark is text of
//! somebody else: the firmware, the kernel. The kernel may also print in the middle of a
//! record; that record is then damaged and says so. Nothing depends on a single record:
//! orders are sent again until they are answered, and the guest answers an order that it has
//! already run from its memory.
//!
//! The outside sends [`Order`]s, the guest sends [`FromGuest`].

mod answer;
mod load;
mod order;
mod record;

pub use answer::{
    Answer, BlockCounters, Device, Event, Failure, FailureKind, FromGuest, Hello, HostileReport,
    KernelLine, Outcome, RunningOrder, Status, ToolResult,
};
pub use load::{
    AckPlace, ErrnoCount, Latency, LoadKind, LoadReport, LoadSpec, OnError, Pick, SyncCall,
    ThreadReport,
};
pub use order::{Filesystem, HostileTarget, Order, Step};
pub use record::{Decoder, Item, MARK, MAX_RECORD, WireError, encode};
