// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Reads a snapshot, and refuses one that does not fit together.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::memory::{CopyError, copy_sparse};
use super::{
    CONFIG_FILE, Cancel, MEMORY_FILE, STATE_FILE, SnapshotError, State, VERSION, ram_size,
};
use crate::config::VmConfig;
use crate::machine::Ram;

/// A snapshot whose parts belong together, opened for reading.
#[derive(Debug)]
pub struct Snapshot {
    dir: PathBuf,
    config: VmConfig,
    state: State,
    memory: File,
}

/// The version alone, so that another version is named before anything else of it is read.
#[derive(Deserialize)]
struct Version {
    version: u64,
}

impl Snapshot {
    /// Opens the snapshot in `dir`.
    ///
    /// # Errors
    /// Names the file that is missing, of another version, truncated or edited so that
    /// it does not fit.
    pub fn open(dir: &Path) -> Result<Self, SnapshotError> {
        let state_path = dir.join(STATE_FILE);
        let value: Value = read_json(&state_path)?;
        let Version { version } =
            Version::deserialize(&value).map_err(|source| SnapshotError::Json {
                path: state_path.clone(),
                source,
            })?;
        if version != u64::from(VERSION) {
            return Err(SnapshotError::Version {
                path: state_path,
                found: version,
            });
        }
        let state: State = serde_json::from_value(value).map_err(|source| SnapshotError::Json {
            path: state_path,
            source,
        })?;

        let config_path = dir.join(CONFIG_FILE);
        let config: VmConfig = read_json(&config_path)?;
        config.validate().map_err(|source| SnapshotError::Config {
            path: config_path.clone(),
            source,
        })?;
        let ram = state
            .ram
            .iter()
            .try_fold(0_u64, |sum, region| sum.checked_add(region.size))
            .unwrap_or(u64::MAX);
        if config.memory.size != ram {
            return Err(SnapshotError::ConfigMemory {
                path: config_path,
                config: config.memory.size,
                state: ram,
            });
        }

        let memory = open_memory(&dir.join(MEMORY_FILE), &state)?;
        Ok(Self {
            dir: dir.to_owned(),
            config,
            state,
            memory,
        })
    }

    /// The machine's configuration.
    #[must_use]
    pub fn config(&self) -> &VmConfig {
        &self.config
    }

    /// The machine's own state, as it was given to [`super::save`].
    ///
    /// # Errors
    /// It does not hold a `T`.
    pub fn machine<T: DeserializeOwned>(&self) -> Result<T, SnapshotError> {
        T::deserialize(&self.state.machine).map_err(|source| SnapshotError::Json {
            path: self.dir.join(STATE_FILE),
            source,
        })
    }

    /// Fills `ram`, which is still all zeros.
    ///
    /// # Errors
    /// It is laid out differently, or a file fails.
    pub fn fill(&self, ram: &Ram) -> Result<(), SnapshotError> {
        if ram.regions != self.state.ram {
            return Err(SnapshotError::Layout(format!(
                "{:x?} here, {:x?} there",
                ram.regions, self.state.ram
            )));
        }
        copy_sparse(&self.memory, &ram.file, &self.state.ram, &Cancel::default())
            .map_err(|error| match error {
                CopyError::Read(source) => SnapshotError::Read {
                    path: self.dir.join(MEMORY_FILE),
                    source,
                },
                CopyError::Write(source) => SnapshotError::Ram {
                    what: "filled",
                    source,
                },
                CopyError::Cancelled => SnapshotError::Cancelled,
            })
            .map(|_| ())
    }
}

fn open_memory(path: &Path, state: &State) -> Result<File, SnapshotError> {
    let file = File::open(path).map_err(read_error(path))?;
    let found = file.metadata().map_err(read_error(path))?.len();
    match ram_size(&state.ram) {
        Some(expected) if expected == found => Ok(file),
        expected => Err(SnapshotError::MemorySize {
            path: path.to_owned(),
            found,
            expected: expected.unwrap_or(u64::MAX),
        }),
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, SnapshotError> {
    let file = File::open(path).map_err(read_error(path))?;
    serde_json::from_reader(BufReader::new(file)).map_err(|error| match error.io_error_kind() {
        Some(_) => read_error(path)(error.into()),
        None => SnapshotError::Json {
            path: path.to_owned(),
            source: error,
        },
    })
}

fn read_error(path: &Path) -> impl Fn(io::Error) -> SnapshotError + '_ {
    |source| SnapshotError::Read {
        path: path.to_owned(),
        source,
    }
}
