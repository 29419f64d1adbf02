// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The series folder: reading it strictly, writing it in one form only.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::manifest::{self, FORMAT, SeriesFile};
use crate::series::Series;

mod reader;
mod replace;
mod writer;

pub use replace::{Settled, save, settle};
pub use writer::render;

use reader::Reader;

const SERIES_FILE: &str = "series.toml";
const BASE_FILE: &str = "base.toml";
const STEP_FILE: &str = "step.toml";
const MESSAGE_FILE: &str = "message";

/// What may lie beside the bases.
const BESIDE: [&str; 3] = ["README.md", SERIES_FILE, ".gitattributes"];

/// Whether `name` can be that of a base or a step: a folder name of letters,
/// digits, `.`, `_` and `-` that does not start with a `.`.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// The folder that holds the series folder; copied folders are relative to it.
pub fn project_of(folder: &Path) -> PathBuf {
    folder.join("..")
}

/// Reads a series folder; [`settle`] comes first. One that is not there is a
/// series without a base.
///
/// # Errors
/// [`Error::Busy`] if another chpatch has begun to write to the folder;
/// [`Error::Series`] with the file that does not follow the format, also for a
/// file that no step refers to; [`Error::Inconsistent`] when the parts do not
/// fit together.
pub fn load(folder: &Path) -> Result<Series, Error> {
    let mut series = Series::default();
    let mut names = Vec::new();
    for (name, is_folder) in entries(folder)? {
        match is_folder {
            true if is_name(&name) => names.push(name),
            true if replace::IN_WORK.contains(&name.as_str()) => {
                return Err(Error::Busy {
                    folder: folder.to_owned(),
                });
            }
            false if BESIDE.contains(&name.as_str()) => {}
            _ => return Err(stray(Path::new(&name))),
        }
    }
    if folder.join(SERIES_FILE).exists() {
        let file = Path::new(SERIES_FILE);
        let table: SeriesFile = table(folder, file)?;
        check_format(file, table.format)?;
        series.copied = table.copied;
    }
    for name in names {
        let base = Reader { folder }.base(&name, &series)?;
        base.verify()?;
        series.bases.insert(name, base);
    }
    Ok(series)
}

/// Names in a folder, and whether each is a folder itself, in order.
fn entries(folder: &Path) -> Result<BTreeMap<String, bool>, Error> {
    let io = |error| Error::io(format!("read the series folder {}", folder.display()))(error);
    let listing = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        other => other.map_err(io)?,
    };
    let mut found = BTreeMap::new();
    for entry in listing {
        let entry = entry.map_err(io)?;
        let kind = entry.file_type().map_err(io)?;
        match entry.file_name().into_string() {
            Ok(name) if kind.is_file() || kind.is_dir() => found.insert(name, kind.is_dir()),
            Ok(name) => return Err(stray(Path::new(&name))),
            Err(name) => return Err(stray(Path::new(&name))),
        };
    }
    Ok(found)
}

fn stray(file: &Path) -> Error {
    Error::Series {
        file: file.to_owned(),
        fault: "does not belong to the series; remove it".to_owned(),
    }
}

fn check_format(file: &Path, format: u32) -> Result<(), Error> {
    match format {
        FORMAT => Ok(()),
        _ => Err(Error::Series {
            file: file.to_owned(),
            fault: format!("format {format} is not known; this chpatch reads format {FORMAT}"),
        }),
    }
}

fn read(folder: &Path, file: &Path) -> Result<Vec<u8>, Error> {
    fs::read(folder.join(file)).map_err(|error| Error::Series {
        file: file.to_owned(),
        fault: format!("can't be read: {error}"),
    })
}

fn table<T: DeserializeOwned>(folder: &Path, file: &Path) -> Result<T, Error> {
    manifest::parse(&read(folder, file)?).map_err(|fault| Error::Series {
        file: file.to_owned(),
        fault,
    })
}

fn files_below(folder: &Path, place: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for (name, is_folder) in entries(&folder.join(place))? {
        let file = place.join(name);
        if is_folder {
            found.extend(files_below(folder, &file)?);
        } else {
            found.push(file);
        }
    }
    Ok(found)
}
