// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A small KVM virtual machine monitor that hosts the flush engine under test.
//!
//! It takes cloud-hypervisor's flags and answers its REST calls, so that one client
//! drives both. Two halves meet in [`machine`]: the *control* half (what the user
//! says and how it is answered) and the *machine* half (what the guest sees).

pub mod api;
pub mod config;
pub mod control;
pub mod error;
pub mod events;
pub mod machine;
pub mod snapshot;
pub mod spool;
pub mod start;

pub mod acpi;
pub mod boot;
pub mod cpu;
pub mod devices;
pub mod irqchip;
pub mod layout;
pub mod memory;
pub mod virtio;
pub mod vm;

/// What `--version` and `vmm.ping` show.
pub const BUILD_VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// What this build can do beyond a normal one.
pub const FEATURES: &[&str] = if cfg!(feature = "fault") {
    &["fault"]
} else {
    &[]
};
