// SPDX-License-Identifier: GPL-2.0-only

//! virtio-pmem driver for stock Linux kernels.
//!
//! The kernel calls the trampolines of `helpers.c`, these call [`entry`], and that calls
//! a [`device::Device`]: flush-core's state machine, running on this kernel by way of
//! [`platform`]. All unsafe code is in [`ffi`], [`handle`], [`lock`], [`bios`] and [`entry`].
#![no_std]
#![deny(missing_docs, unsafe_op_in_unsafe_fn)]

mod bios;
mod counters;
mod device;
mod entry;
mod ffi;
mod handle;
mod lock;
mod platform;
mod region;
