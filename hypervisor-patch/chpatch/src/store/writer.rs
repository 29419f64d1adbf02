// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The bases as files, in one form only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{BASE_FILE, MESSAGE_FILE, STEP_FILE};
use crate::blob::BlobId;
use crate::error::Error;
use crate::lines;
use crate::manifest::{
    self, Add, BaseFile, Delete, EditEntry, FORMAT, Preimage, Rewrite, StepFile,
};
use crate::path::TreePath;
use crate::series::{Base, Change, ChangeKind, Series, Step};

/// The files of every base folder, by base and path in it. What two bases have in
/// common is stored with the one that comes first by name.
///
/// # Errors
/// A table that TOML can't express; there is none.
pub fn render(series: &Series) -> Result<BTreeMap<String, BTreeMap<PathBuf, Vec<u8>>>, Error> {
    let mut owners = BTreeMap::new();
    let mut rendered = BTreeMap::new();
    for base in series.bases.values() {
        let mut files = BTreeMap::new();
        let table = BaseFile {
            format: FORMAT,
            name: base.name.clone(),
            commit: base.commit,
            steps: base.steps.iter().map(|step| step.folder.clone()).collect(),
            preimage: base
                .preimages
                .iter()
                .map(|(path, version)| Preimage {
                    path: path.clone(),
                    mode: version.mode,
                    blob: version.blob,
                })
                .collect(),
        };
        insert_table(&mut files, Path::new(BASE_FILE), manifest::render(&table))?;
        for step in &base.steps {
            render_step(base, step, &mut owners, &mut files)?;
        }
        rendered.insert(base.name.clone(), files);
    }
    Ok(rendered)
}

type Owners = BTreeMap<(PathBuf, BlobId), String>;

fn insert_table(
    files: &mut BTreeMap<PathBuf, Vec<u8>>,
    file: &Path,
    text: Result<Vec<u8>, String>,
) -> Result<(), Error> {
    let text = text.map_err(|fault| Error::Series {
        file: file.to_owned(),
        fault,
    })?;
    files.insert(file.to_owned(), text);
    Ok(())
}

fn render_step(
    base: &Base,
    step: &Step,
    owners: &mut Owners,
    files: &mut BTreeMap<PathBuf, Vec<u8>>,
) -> Result<(), Error> {
    let place = Path::new(&step.folder);
    let me = format!("{}/{}", base.name, step.folder);
    // Stores a content unless another step has it at the same place already.
    let mut stored = |kind: &str, path: &TreePath, content: Vec<u8>| {
        let file = Path::new(kind).join(path);
        let key = (file.clone(), BlobId::of(&content));
        match owners.get(&key) {
            Some(owner) => Some(owner.clone()),
            None => {
                owners.insert(key, me.clone());
                files.insert(place.join(file), content);
                None
            }
        }
    };
    let mut table = StepFile::default();
    for Change { path, kind } in &step.changes {
        let path = path.clone();
        match kind {
            ChangeKind::Add {
                mode,
                blob,
                content,
                copied,
            } => {
                let same_as = match copied {
                    Some(_) => None,
                    None => stored("files", &path, content.clone()),
                };
                table.add.push(Add {
                    path,
                    mode: *mode,
                    blob: *blob,
                    same_as,
                    copied: copied.clone(),
                });
            }
            ChangeKind::Rewrite { pre, mode, content } => table.rewrite.push(Rewrite {
                same_as: stored("files", &path, content.clone()),
                path,
                blob: *pre,
                result: BlobId::of(content),
                mode: *mode,
            }),
            ChangeKind::Edit {
                from,
                pre,
                mode,
                edit,
                result,
            } => table.edit.push(EditEntry {
                same_as: match edit.at.as_slice() {
                    [] => None,
                    _ => stored("lines", &path, lines::render(&edit.hunks)),
                },
                path,
                from: from.clone(),
                blob: *pre,
                at: edit.at.clone(),
                result: *result,
                mode: *mode,
            }),
            ChangeKind::Delete { pre } => table.delete.push(Delete { path, blob: *pre }),
        }
    }
    files.insert(place.join(MESSAGE_FILE), step.message.clone().into_bytes());
    insert_table(files, &place.join(STEP_FILE), manifest::render(&table))
}
