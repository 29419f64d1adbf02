// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The guest driver's own tests: guests under plain QEMU with its virtio-pmem-pci, without a lab.
//!
//! Each runs one script of `guest-driver/linux/tests/scenarios` in a guest of its own, whose process 1
//! is a shell. A guest takes seconds to boot where a lab takes half a minute.

mod catalogue;
mod image;
mod machine;
mod outcome;
mod pool;

pub use catalogue::{ALL, GuestTest, Under, find};
pub use image::slow_fsync;
pub use machine::version as qemu_version;
pub use pool::{GuestAssets, GuestKernel, GuestRequest, run};
