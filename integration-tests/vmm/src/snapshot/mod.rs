// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A snapshot is a directory: `config.json` (what the user asked for), `memory`
//! (guest RAM, sparse) and `state.json` (everything else, versioned).
//!
//! Files are written under temporary names and synced; only then they get their
//! names, `state.json` last. A directory without `state.json` is no snapshot.

mod cancel;
mod error;
mod memory;
mod read;
mod url;
mod write;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::cancel::Cancel;
pub use self::error::SnapshotError;
pub use self::read::Snapshot;
pub use self::url::directory;
pub use self::write::save;

/// The version of `state.json` that this build writes and reads.
pub const VERSION: u32 = 1;

const CONFIG_FILE: &str = "config.json";
const MEMORY_FILE: &str = "memory";
const STATE_FILE: &str = "state.json";

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

/// How long the memory file is: the end of the last region.
fn ram_size(regions: &[RamRegion]) -> Option<u64> {
    regions
        .iter()
        .map(|region| region.offset.checked_add(region.size))
        .try_fold(0, |end, region_end| Some(region_end?.max(end)))
}

#[cfg(test)]
mod tests;
