// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Power cuts, as often as one likes, from one recording.
//!
//! A disk under dm-log-writes ([`Recorder`]) notes every write and every flush in the order in
//! which they became durable: a plain write is noted when the flush after it has ended, one
//! with FUA when it has itself. While it records, each ack that was seen is followed by a mark
//! in the same log ([`Marker`]). So what was acked before a mark has to be in what the log holds
//! before it; that is the whole promise of a flush.
//!
//! Afterwards [`Replay`] builds the disk as a cut at any place of the log ([`Cut`]) would have left
//! it: all of the log before the cut, and of what was in the disk's volatile cache then a
//! random part, some of it torn between blocks.

mod acked;
mod cut;
mod image;
mod log;
mod marker;
mod mounted;
mod recorder;
mod stage;

pub use acked::Acked;
pub use cut::{Odds, Places, choose};
pub use log::Log;
pub use marker::Marker;
pub use mounted::Mounted;
pub use recorder::{Marks, Recorder};
pub use stage::{Replay, Subject, Tally};
