// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! Request and flush state machine of the virtio-pmem guest driver.
//!
//! [`FlushCore`] turns any number of concurrent flushes into at most two host
//! flushes, one running and one to come, and sees each of them through failure, suspend
//! and removal of the device. It knows no kernel: what it needs of one is the
//! [`Platform`] trait. It allocates nothing, formats nothing and has no unsafe code.
#![no_std]
// Tests count allocations, which takes an unsafe trait.
#![cfg_attr(not(test), forbid(unsafe_code))]

#[cfg(test)]
extern crate std;

#[macro_use]
mod mutation;

mod counters;
mod error;
mod flush;
mod flush_core;
mod generation;
mod lifecycle;
mod platform;
mod request;
mod state;
mod sync;
#[cfg(test)]
mod tests;

pub use counters::Counters;
pub use error::{Cause, Error};
pub use flush_core::FlushCore;
pub use platform::{Bios, Cookie, Lock, Platform, Refusal, Ticks, Used, WaitQueue};
pub use request::{Request, verdict};
pub use state::Device;
