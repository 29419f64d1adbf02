// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Replacing bases on disk, all or nothing.
//!
//! Bases refer to one another, so those that change go into place together. They
//! are written to the folder [`WRITING`] first, which is then renamed to
//! [`WRITTEN`]. Before that the series is the old one, and after it the new one,
//! whatever happens: [`settle`] throws away what was not written to its end, and
//! puts the rest in place where a run was stopped amid that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{entries, files_below, read, render};
use crate::error::Error;
use crate::lock::Lock;
use crate::series::Series;
use crate::transaction::Watch;

/// Where bases are written.
const WRITING: &str = ".writing";

/// Where bases wait that have been written to their end.
const WRITTEN: &str = ".written";

/// Folders beside the bases that are there only while a series is written.
pub(super) const IN_WORK: [&str; 2] = [WRITING, WRITTEN];

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// What [`settle`] found and did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Settled {
    /// Nothing was left behind.
    Whole,
    /// Bases that were not written to their end were thrown away: the series is
    /// the old one.
    TookBack,
    /// Bases that had been written were put in place: the series is the new one.
    Completed,
}

/// Leads a series folder out of whatever an earlier [`save`] left behind.
///
/// # Errors
/// [`Error::Busy`] if that `save` is still at work; an I/O error, after which the
/// next call goes on.
pub fn settle(folder: &Path, watch: Watch<'_>) -> Result<Settled, Error> {
    match IN_WORK.iter().any(|name| is_folder(&folder.join(name))) {
        true => settle_locked(&lock(folder)?, folder, watch),
        false => Ok(Settled::Whole),
    }
}

/// Writes every base folder that is not yet as [`render`] says.
///
/// # Errors
/// [`Error::Busy`] if another chpatch writes to the folder; a file that can't be
/// written. The series is the old one then, or becomes the new one by the next
/// [`settle`].
pub fn save(series: &Series, folder: &Path, watch: Watch<'_>) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(Error::io(format!("create {}", folder.display())))?;
    let lock = lock(folder)?;
    settle_locked(&lock, folder, watch)?;
    let mut changed = BTreeMap::new();
    for (name, files) in render(series)? {
        if on_disk(&folder.join(&name))?.as_ref() != Some(&files) {
            changed.insert(name, files);
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    if let Err(error) = write(&changed, folder, watch) {
        // If this fails, the next run does it.
        let _ = fs::remove_dir_all(folder.join(WRITING));
        return Err(error);
    }
    put_in_place(folder, watch)
}

fn lock(folder: &Path) -> Result<Lock, Error> {
    let open = File::open(folder).map_err(Error::io(format!("open {}", folder.display())))?;
    Lock::take(open, folder)
}

fn settle_locked(_: &Lock, folder: &Path, watch: Watch<'_>) -> Result<Settled, Error> {
    let (writing, written) = (folder.join(WRITING), folder.join(WRITTEN));
    if is_folder(&written) {
        put_in_place(folder, watch)?;
        return Ok(Settled::Completed);
    }
    if is_folder(&writing) {
        watch(&format!("remove {WRITING}"))?;
        remove(&writing)?;
        return Ok(Settled::TookBack);
    }
    Ok(Settled::Whole)
}

/// Writes the bases `changed` to [`WRITTEN`], durably and at once.
fn write(changed: &BTreeMap<String, Files>, folder: &Path, watch: Watch<'_>) -> Result<(), Error> {
    let writing = folder.join(WRITING);
    let mut folders = BTreeSet::from([writing.clone()]);
    for (name, files) in changed {
        for (file, content) in files {
            let file = Path::new(name).join(file);
            watch(&format!("write {}", file.display()))?;
            let file = writing.join(file);
            let above = file.ancestors().skip(1);
            folders.extend(
                above
                    .take_while(|above| *above != writing)
                    .map(Path::to_owned),
            );
            write_file(&file, content).map_err(Error::io(format!("write {}", file.display())))?;
        }
    }
    for folder in &folders {
        sync(folder)?;
    }
    watch(&format!("rename {WRITING}"))?;
    rename(&writing, &folder.join(WRITTEN))?;
    sync(folder)
}

fn write_file(file: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(above) = file.parent() {
        fs::create_dir_all(above)?;
    }
    fs::write(file, content)?;
    File::open(file)?.sync_all()
}

/// Puts the bases in [`WRITTEN`] where they belong, from wherever that got to.
fn put_in_place(folder: &Path, watch: Watch<'_>) -> Result<(), Error> {
    let written = folder.join(WRITTEN);
    for name in entries(&written)?.into_keys() {
        let place = folder.join(&name);
        if is_folder(&place) {
            watch(&format!("remove the old {name}"))?;
            remove(&place)?;
        }
        watch(&format!("place {name}"))?;
        rename(&written.join(&name), &place)?;
    }
    sync(folder)?;
    watch(&format!("remove {WRITTEN}"))?;
    remove(&written)?;
    sync(folder)
}

fn is_folder(place: &Path) -> bool {
    place.symlink_metadata().is_ok_and(|found| found.is_dir())
}

fn remove(place: &Path) -> Result<(), Error> {
    fs::remove_dir_all(place).map_err(Error::io(format!("remove {}", place.display())))
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    let action = format!("rename {} to {}", from.display(), to.display());
    fs::rename(from, to).map_err(Error::io(action))
}

fn sync(folder: &Path) -> Result<(), Error> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::io(format!("sync {}", folder.display())))
}

fn on_disk(place: &Path) -> Result<Option<Files>, Error> {
    if !place.exists() {
        return Ok(None);
    }
    let files = files_below(place, Path::new(""))?;
    let read = |file: PathBuf| Ok((file.clone(), read(place, &file)?));
    files
        .into_iter()
        .map(read)
        .collect::<Result<_, Error>>()
        .map(Some)
}
