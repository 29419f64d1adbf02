// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A snapshot is a directory: `config.json` (what the user asked for), `memory`
//! (guest RAM, sparse) and `state.json` (everything else, versioned), written in
//! this order and renamed into place, so that a directory without `state.json` is
//! no snapshot.

mod memory;
mod read;
mod write;

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

pub use self::read::Snapshot;
pub use self::write::save;

/// The version of `state.json` that this build writes and reads.
pub const VERSION: u32 = 1;

/// `state.json`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// [`VERSION`].
    version: u32,
    /// Where each piece of RAM is in the `memory` file.
    ram: Vec<RamRegion>,
    /// The machine's own state: vCPUs, irqchip, clock, devices, queues, file stamps.
    machine: Value,
}

/// One piece of guest RAM in the `memory` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct RamRegion {
    /// Its first guest physical address.
    pub guest_base: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Where it starts in the file.
    pub offset: u64,
}
