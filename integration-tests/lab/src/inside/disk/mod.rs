// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Disks that can be made slow or bad while they are in use.
//!
//! The scratch disk ([`Scratch`]) is cut into pieces. Each piece is seen through
//! a device-mapper device ([`Mapping`]) whose table can be changed at any time,
//! and most carry a filesystem with the pmem files on it ([`Backing`]).

mod backing;
mod mapped;
mod mapping;
mod on_disk;
mod scratch;
mod thin;

pub use backing::{Backing, HostFs, ReadOnly, reserve};
pub use mapped::{CALLS, Call, Mapped};
pub use mapping::{Mapping, Table, dmsetup, node, remove};
pub use on_disk::OnDisk;
pub use scratch::{Piece, Scratch};
pub use thin::ThinPool;
