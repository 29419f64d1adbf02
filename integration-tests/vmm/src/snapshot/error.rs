// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What can be wrong with a snapshot.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::VERSION;
use crate::config::ConfigError;

/// Why a snapshot cannot be written or read.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The URL is not one we know.
    #[error("`{0}` is no snapshot URL; give file:///DIRECTORY")]
    Url(String),
    /// The URL names something else than a directory.
    #[error("{} is not a directory; give an existing one", .0.display())]
    NotADirectory(PathBuf),
    /// The directory holds a file of this name.
    #[error("{} exists; give a directory without a snapshot", .0.display())]
    Exists(PathBuf),
    /// A file cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Guest RAM cannot be read or filled.
    #[error("guest memory cannot be {what}")]
    Ram {
        /// `read` or `filled`.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A JSON file is not as it should be.
    #[error("{} does not hold what it should", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The state is of another version.
    #[error(
        "{} has version {found}, this build reads version {VERSION}; restore it with the build \
         that wrote it",
        path.display()
    )]
    Version {
        /// `state.json`.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// The memory file is not as long as the state says.
    #[error(
        "{} has {found} bytes, the snapshot's RAM has {expected}; it was truncated or belongs to \
         another snapshot",
        path.display()
    )]
    MemorySize {
        /// `memory`.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// What state.json says.
        expected: u64,
    },
    /// The configuration and the state do not belong together.
    #[error("{} asks for {config} bytes of RAM, the snapshot has {state}", path.display())]
    ConfigMemory {
        /// `config.json`.
        path: PathBuf,
        /// What the configuration says.
        config: u64,
        /// What the state says.
        state: u64,
    },
    /// The configuration has a wrong value.
    #[error("{} is wrong", path.display())]
    Config {
        /// `config.json`.
        path: PathBuf,
        /// Which value.
        source: ConfigError,
    },
    /// The machine's RAM is laid out differently.
    #[error("this machine's RAM does not fit the snapshot's: {0}")]
    Layout(String),
    /// Called off before it was done.
    #[error("the snapshot was called off")]
    Cancelled,
}
