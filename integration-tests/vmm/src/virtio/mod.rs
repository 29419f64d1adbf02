// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! virtio: the register window a driver works with ([`mmio`]), the state it shares with
//! the device behind it ([`line`]), and that device ([`pmem`]).

#[cfg(feature = "fault")]
pub mod character;
pub mod fault;
pub mod line;
#[cfg(feature = "fault")]
mod lying_sync;
pub mod mapping;
pub mod mmio;
pub mod pmem;
mod pmem_thread;
mod registers;
#[cfg(feature = "fault")]
mod serial;

pub use self::registers::QUEUE_NOTIFY;
