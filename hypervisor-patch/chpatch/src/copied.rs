// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Folders of this project that steps copy into the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::blob::{BlobId, Mode};
use crate::error::Error;
use crate::manifest::CopiedFolder;
use crate::path::TreePath;
use crate::series::{Base, Change, ChangeKind, Series};

/// A file of this project.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProjectFile {
    /// Its path relative to the folder that holds the series folder.
    pub source: TreePath,
    /// Its mode.
    pub mode: Mode,
    /// Its content.
    pub content: Vec<u8>,
}

/// The files of a copied folder by the path they get in the tree. `project` is
/// the folder that holds the series folder.
///
/// # Errors
/// A folder that can't be read, or holds something else than files and folders.
pub fn files(
    project: &Path,
    folder: &CopiedFolder,
) -> Result<BTreeMap<TreePath, ProjectFile>, Error> {
    let mut found = BTreeMap::new();
    walk(project, folder, "", &mut found)?;
    Ok(found)
}

fn walk(
    project: &Path,
    folder: &CopiedFolder,
    below: &str,
    found: &mut BTreeMap<TreePath, ProjectFile>,
) -> Result<(), Error> {
    let top = project.join(&folder.from);
    let here = top.join(below);
    let io = |error| Error::io(format!("read the copied folder {}", here.display()))(error);
    for entry in fs::read_dir(&here).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        let unfit = |fault: String| Error::Unfit {
            file: here.join(&name).display().to_string(),
            fault,
        };
        let text = name
            .to_str()
            .ok_or_else(|| unfit("name is not UTF-8".to_owned()))?;
        let inside = match below {
            "" => text.to_owned(),
            _ => format!("{below}/{text}"),
        };
        if folder.exclude.iter().any(|path| path.as_str() == inside) {
            continue;
        }
        let path = |under: &TreePath| format!("{under}/{inside}").parse().map_err(unfit);
        let kind = entry.file_type().map_err(io)?;
        if kind.is_dir() {
            walk(project, folder, &inside, found)?;
        } else if kind.is_file() {
            let file = ProjectFile {
                source: path(&folder.from)?,
                mode: Mode::of_permissions(entry.metadata().map_err(io)?.permissions().mode()),
                content: fs::read(entry.path()).map_err(io)?,
            };
            found.insert(path(&folder.to)?, file);
        } else {
            return Err(unfit(
                "is neither file nor folder; exclude it in series.toml".to_owned(),
            ));
        }
    }
    Ok(())
}

/// What is no longer as the steps of `base` recorded it, one text for each file.
///
/// # Errors
/// As [`files`].
pub fn drift(project: &Path, folders: &[CopiedFolder], base: &Base) -> Result<Vec<String>, Error> {
    let mut recorded = BTreeSet::new();
    let mut changes = Vec::new();
    let mut current = BTreeMap::new();
    for folder in folders {
        for file in files(project, folder)?.into_values() {
            current.insert(file.source.clone(), file);
        }
    }
    for change in base.steps.iter().flat_map(|step| &step.changes) {
        let ChangeKind::Add {
            blob,
            mode,
            copied: Some(source),
            ..
        } = &change.kind
        else {
            continue;
        };
        recorded.insert(source);
        match current.get(source) {
            None => changes.push(format!("{source} was recorded, but is gone or excluded")),
            Some(file) if BlobId::of(&file.content) != *blob || file.mode != *mode => {
                changes.push(format!("{source} has changed since it was recorded"));
            }
            Some(_) => {}
        }
    }
    if !recorded.is_empty() {
        let new = current.keys().filter(|source| !recorded.contains(source));
        changes.extend(new.map(|source| format!("{source} is not recorded yet")));
    }
    Ok(changes)
}

/// Records the copied files of every base as they are now.
///
/// # Errors
/// [`Error::Inconsistent`] when a later step edits a copied file that has
/// changed; else as [`files`].
pub fn refresh(project: &Path, series: &mut Series) -> Result<(), Error> {
    for folder in &series.copied {
        let current = files(project, folder)?;
        for base in series.bases.values_mut() {
            let inside = |change: &Change| {
                matches!(&change.kind, ChangeKind::Add { copied: Some(source), .. }
                    if source.folders().any(|above| above == folder.from.as_str()))
            };
            for step in &mut base.steps {
                if !step.changes.iter().any(inside) {
                    continue;
                }
                step.changes.retain(|change| !inside(change));
                step.changes
                    .extend(current.iter().map(|(path, file)| file.added(path)));
                step.changes.sort_by(|one, other| one.path.cmp(&other.path));
            }
            base.drift.clear();
        }
    }
    series.bases.values().try_for_each(Base::verify)
}

impl ProjectFile {
    /// The change that puts the file at `path`.
    pub fn added(&self, path: &TreePath) -> Change {
        Change {
            path: path.clone(),
            kind: ChangeKind::Add {
                mode: self.mode,
                blob: BlobId::of(&self.content),
                content: self.content.clone(),
                copied: Some(self.source.clone()),
            },
        }
    }
}
