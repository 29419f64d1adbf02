// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Reading a base.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::{
    BASE_FILE, MESSAGE_FILE, STEP_FILE, check_format, entries, files_below, is_name, project_of,
    read, stray, table,
};
use crate::blob::BlobId;
use crate::copied;
use crate::edit::Edit;
use crate::error::Error;
use crate::lines;
use crate::manifest::{Add, BaseFile, Preimage, StepFile};
use crate::path::TreePath;
use crate::series::{Base, Change, ChangeKind, Series, Step, Version};

pub(super) struct Reader<'a> {
    pub(super) folder: &'a Path,
}

impl Reader<'_> {
    pub(super) fn base(&self, name: &str, series: &Series) -> Result<Base, Error> {
        let place = Path::new(name);
        let file = place.join(BASE_FILE);
        let fault = |fault: String| Error::Series {
            file: file.clone(),
            fault,
        };
        let table: BaseFile = table(self.folder, &file)?;
        check_format(&file, table.format)?;
        if table.name != name {
            return Err(fault(format!("name '{}' is not its folder's", table.name)));
        }
        let listed: BTreeSet<_> = table.steps.iter().map(String::as_str).collect();
        if listed.len() != table.steps.len() {
            return Err(fault("a step is named twice".to_owned()));
        }
        for (entry, is_folder) in entries(&self.folder.join(place))? {
            let known = if is_folder {
                listed.contains(entry.as_str())
            } else {
                entry == BASE_FILE
            };
            if !known {
                return Err(stray(&place.join(entry)));
            }
        }
        let mut preimages = BTreeMap::new();
        for Preimage { path, mode, blob } in table.preimage {
            if preimages
                .insert(path.clone(), Version { mode, blob })
                .is_some()
            {
                return Err(fault(format!("pre-image {path} is named twice")));
            }
        }
        let mut steps = Vec::new();
        for step in &table.steps {
            if !is_name(step) {
                return Err(fault(format!("'{step}' can't be a step's folder")));
            }
            steps.push(self.step(&place.join(step), step)?);
        }
        let mut base = Base {
            name: name.to_owned(),
            commit: table.commit,
            steps,
            preimages,
            drift: Vec::new(),
        };
        base.drift = copied::drift(&project_of(self.folder), &series.copied, &base)?;
        Ok(base)
    }

    fn step(&self, place: &Path, folder: &str) -> Result<Step, Error> {
        let file = place.join(STEP_FILE);
        let table: StepFile = table(self.folder, &file)?;
        let message_file = place.join(MESSAGE_FILE);
        let message = String::from_utf8(read(self.folder, &message_file)?).map_err(|error| {
            Error::Series {
                file: message_file.clone(),
                fault: error.to_string(),
            }
        })?;
        let mut known: BTreeSet<_> = [file, message_file].into();
        let mut content = |kind: &str, path: &TreePath, same_as: Option<&String>| {
            let own = place.join(kind).join(path);
            let at = match same_as {
                Some(other) => Path::new(other).join(kind).join(path),
                None => {
                    known.insert(own.clone());
                    own
                }
            };
            Ok((read(self.folder, &at)?, at))
        };
        let mut changes = Vec::new();
        for entry in table.add {
            check_reference(place, entry.same_as.as_ref())?;
            changes.push(self.add(place, entry, &mut content)?);
        }
        for entry in table.rewrite {
            check_reference(place, entry.same_as.as_ref())?;
            let (content, at) = content("files", &entry.path, entry.same_as.as_ref())?;
            check_content(at, &content, entry.result)?;
            changes.push(Change {
                path: entry.path,
                kind: ChangeKind::Rewrite {
                    pre: entry.blob,
                    mode: entry.mode,
                    content,
                },
            });
        }
        for entry in table.edit {
            check_reference(place, entry.same_as.as_ref())?;
            let hunks = if entry.at.is_empty() {
                Vec::new()
            } else {
                let (text, at) = content("lines", &entry.path, entry.same_as.as_ref())?;
                lines::parse(&text).map_err(|fault| Error::Series { file: at, fault })?
            };
            changes.push(Change {
                path: entry.path,
                kind: ChangeKind::Edit {
                    from: entry.from,
                    pre: entry.blob,
                    mode: entry.mode,
                    edit: Edit {
                        at: entry.at,
                        hunks,
                    },
                    result: entry.result,
                },
            });
        }
        changes.extend(table.delete.into_iter().map(|entry| Change {
            path: entry.path,
            kind: ChangeKind::Delete { pre: entry.blob },
        }));
        changes.sort_by(|one, other| one.path.cmp(&other.path));
        for file in files_below(self.folder, place)? {
            if !known.contains(&file) {
                return Err(stray(&file));
            }
        }
        Ok(Step {
            folder: folder.to_owned(),
            message,
            changes,
        })
    }

    fn add(
        &self,
        place: &Path,
        entry: Add,
        content: &mut impl FnMut(&str, &TreePath, Option<&String>) -> Result<(Vec<u8>, PathBuf), Error>,
    ) -> Result<Change, Error> {
        let content = match &entry.copied {
            // One that is gone shows as drift, which comes with a remedy.
            Some(source) => fs::read(project_of(self.folder).join(source)).unwrap_or_default(),
            None => {
                let (content, at) = content("files", &entry.path, entry.same_as.as_ref())?;
                check_content(at, &content, entry.blob)?;
                content
            }
        };
        if entry.copied.is_some() && entry.same_as.is_some() {
            return Err(Error::Series {
                file: place.join(STEP_FILE),
                fault: format!("{} has both 'copied' and 'same_as'", entry.path),
            });
        }
        Ok(Change {
            path: entry.path,
            kind: ChangeKind::Add {
                mode: entry.mode,
                blob: entry.blob,
                content,
                copied: entry.copied,
            },
        })
    }
}

fn check_reference(place: &Path, same_as: Option<&String>) -> Result<(), Error> {
    match same_as {
        Some(other) if !matches!(other.split_once('/'), Some((base, step)) if is_name(base) && is_name(step)) => {
            Err(Error::Series {
                file: place.join(STEP_FILE),
                fault: format!("same_as '{other}' is not <base>/<step folder>"),
            })
        }
        _ => Ok(()),
    }
}

fn check_content(file: PathBuf, content: &[u8], blob: BlobId) -> Result<(), Error> {
    match BlobId::of(content) {
        found if found == blob => Ok(()),
        found => Err(Error::Series {
            file,
            fault: format!(
                "content is {found}, step.toml says {blob}; \
                 change the series with `chpatch record`, not by hand"
            ),
        }),
    }
}
