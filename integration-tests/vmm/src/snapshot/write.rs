// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Writes a snapshot: all of it, or nothing.

use std::fs::{File, OpenOptions, remove_file, rename};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use log::warn;
use serde::Serialize;
use serde_json::Value;

use super::memory::{CopyError, copy_sparse};
use super::{
    CONFIG_FILE, Cancel, MEMORY_FILE, STATE_FILE, SnapshotError, State, VERSION, ram_size,
};
use crate::config::VmConfig;
use crate::machine::Ram;

/// Writes a snapshot into `dir`, which must hold none. Returns how many bytes of RAM
/// were written; the rest is zeros.
///
/// When this returns, the snapshot is on the disk, or `dir` is as it was before.
///
/// # Errors
/// Names the file and the reason.
pub fn save(
    dir: &Path,
    config: &VmConfig,
    machine: Value,
    ram: &Ram,
    cancel: &Cancel,
) -> Result<u64, SnapshotError> {
    let mut files = Files::new(dir)?;
    let state = State {
        version: VERSION,
        ram: ram.regions.clone(),
        machine,
    };
    files.json(CONFIG_FILE, config)?;
    let written = files.memory(ram, cancel)?;
    files.json(STATE_FILE, &state)?;
    if cancel.is_cancelled() {
        return Err(SnapshotError::Cancelled);
    }
    files.publish()?;
    Ok(written)
}

/// The files of a snapshot that is being written. Dropping them removes them.
struct Files {
    dir: PathBuf,
    /// In the order in which they get their names.
    written: Vec<Written>,
    published: bool,
}

struct Written {
    temporary: PathBuf,
    name: PathBuf,
    renamed: bool,
}

impl Files {
    fn new(dir: &Path) -> Result<Self, SnapshotError> {
        for name in [STATE_FILE, CONFIG_FILE, MEMORY_FILE] {
            let path = dir.join(name);
            if path.symlink_metadata().is_ok() {
                return Err(SnapshotError::Exists(path));
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            written: Vec::new(),
            published: false,
        })
    }

    fn create(&mut self, name: &str) -> Result<(PathBuf, File), SnapshotError> {
        let temporary = self.dir.join(format!(".{name}.tmp"));
        // What a killed process left.
        match remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(write_error(&temporary)(error));
            }
            _ => {}
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(write_error(&temporary))?;
        self.written.push(Written {
            temporary: temporary.clone(),
            name: self.dir.join(name),
            renamed: false,
        });
        Ok((temporary, file))
    }

    fn json(&mut self, name: &str, value: &impl Serialize) -> Result<(), SnapshotError> {
        let (path, file) = self.create(name)?;
        let mut writer = BufWriter::new(&file);
        serde_json::to_writer(&mut writer, value).map_err(|error| match error.io_error_kind() {
            Some(_) => write_error(&path)(error.into()),
            None => SnapshotError::Json {
                path: path.clone(),
                source: error,
            },
        })?;
        writer
            .flush()
            .and_then(|()| file.sync_all())
            .map_err(write_error(&path))
    }

    fn memory(&mut self, ram: &Ram, cancel: &Cancel) -> Result<u64, SnapshotError> {
        let (path, file) = self.create(MEMORY_FILE)?;
        let size = ram_size(&ram.regions)
            .ok_or_else(|| SnapshotError::Layout("its size overflows".to_owned()))?;
        let written =
            copy_sparse(&ram.file, &file, &ram.regions, cancel).map_err(|error| match error {
                CopyError::Read(source) => SnapshotError::Ram {
                    what: "read",
                    source,
                },
                CopyError::Write(source) => write_error(&path)(source),
                CopyError::Cancelled => SnapshotError::Cancelled,
            })?;
        file.set_len(size)
            .and_then(|()| file.sync_all())
            .map_err(write_error(&path))?;
        Ok(written)
    }

    /// Gives the files their names, and makes the names last.
    fn publish(&mut self) -> Result<(), SnapshotError> {
        for file in &mut self.written {
            rename(&file.temporary, &file.name).map_err(write_error(&file.name))?;
            file.renamed = true;
        }
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(write_error(&self.dir))?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        // The last one first: without state.json there is no snapshot.
        for file in self.written.iter().rev() {
            let path = if file.renamed {
                &file.name
            } else {
                &file.temporary
            };
            if let Err(error) = remove_file(path) {
                warn!("{} cannot be removed: {error}", path.display());
            }
        }
    }
}

fn write_error(path: &Path) -> impl Fn(io::Error) -> SnapshotError + '_ {
    |source| SnapshotError::Write {
        path: path.to_owned(),
        source,
    }
}
