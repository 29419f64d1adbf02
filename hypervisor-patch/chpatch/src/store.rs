// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The series folder: reading it strictly, writing it in one form only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::blob::BlobId;
use crate::copied;
use crate::edit::Edit;
use crate::error::Error;
use crate::lines;
use crate::manifest::{
    self, Add, BaseFile, Delete, EditEntry, FORMAT, Preimage, Rewrite, SeriesFile, StepFile,
};
use crate::path::TreePath;
use crate::series::{Base, Change, ChangeKind, Series, Step, Version};

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

/// Reads a series folder. One that is not there is a series without a base.
///
/// # Errors
/// [`Error::Series`] with the file that does not follow the format, also for a
/// file that no step refers to; [`Error::Inconsistent`] when the parts do not
/// fit together.
pub fn load(folder: &Path) -> Result<Series, Error> {
    let mut series = Series::default();
    let mut names = Vec::new();
    for (name, is_folder) in entries(folder)? {
        match is_folder {
            true if is_name(&name) => names.push(name),
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

struct Reader<'a> {
    folder: &'a Path,
}

impl Reader<'_> {
    fn base(&self, name: &str, series: &Series) -> Result<Base, Error> {
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

/// Writes every base folder that is not yet as [`render`] says.
///
/// # Errors
/// A file that can't be written. A base's folder is replaced as a whole: it is
/// either the old one or the new one.
pub fn save(series: &Series, folder: &Path) -> Result<(), Error> {
    for (name, files) in render(series)? {
        let place = folder.join(&name);
        if on_disk(&place)?.as_ref() == Some(&files) {
            continue;
        }
        let (fresh, stale) = (
            folder.join(format!(".new-{name}")),
            folder.join(format!(".old-{name}")),
        );
        for (file, content) in files {
            let file = fresh.join(file);
            if let Some(above) = file.parent() {
                fs::create_dir_all(above)
                    .map_err(Error::io(format!("create {}", above.display())))?;
            }
            fs::write(&file, content).map_err(Error::io(format!("write {}", file.display())))?;
        }
        let replace = || {
            if place.exists() {
                fs::rename(&place, &stale)?;
            }
            fs::rename(&fresh, &place)?;
            if stale.exists() {
                fs::remove_dir_all(&stale)?;
            }
            Ok(())
        };
        replace().map_err(Error::io(format!("replace {}", place.display())))?;
    }
    Ok(())
}

fn on_disk(place: &Path) -> Result<Option<BTreeMap<PathBuf, Vec<u8>>>, Error> {
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
