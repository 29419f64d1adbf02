// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a tree remembers of the series in it: `.chpatch/journal.json`, beside it
//! the bytes of the files that were replaced, by blob id.

use std::io;

use serde::{Deserialize, Serialize};

use crate::blob::{BlobId, Mode};
use crate::error::Error;
use crate::path::{STATE_FOLDER, TreePath};
use crate::series::Version;
use crate::tree::Tree;

/// The only format there is.
pub const FORMAT: u32 = 1;

const JOURNAL: &str = "journal.json";
const NEW_JOURNAL: &str = "journal.new";

const KEPT: &str = "before-";

/// The name under which a file is staged before it is moved into place.
pub const STAGED: &str = "staged";

/// The index in which commits are made before any of them can be seen.
pub const INDEX: &str = "index";

/// Git leaves the state folder alone by its own ignore file.
const IGNORE: &str = ".gitignore";

/// How far a change of the tree has come.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The series goes in. After a kill it is taken out again.
    Applying,
    /// The series is in.
    Applied,
    /// The series goes out. After a kill that is completed.
    Reverting,
}

/// A file of which the series changes content or mode, or both.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The file.
    pub path: TreePath,
    /// What was there, with all of its permissions; `None` for nothing.
    pub before: Option<Before>,
    /// What the series puts there; `None` for nothing.
    pub after: Option<After>,
}

/// A file before the series.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Before {
    /// Its content.
    pub blob: BlobId,
    /// Its permission bits.
    pub permissions: u32,
}

impl Before {
    /// The version as git sees it.
    pub fn version(self) -> Version {
        Version {
            mode: Mode::of_permissions(self.permissions),
            blob: self.blob,
        }
    }
}

/// A file after the series.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    /// Its content.
    pub blob: BlobId,
    /// Its mode.
    pub mode: Mode,
}

impl After {
    /// The version as git sees it.
    pub fn version(self) -> Version {
        Version {
            mode: self.mode,
            blob: self.blob,
        }
    }
}

/// How `apply --commit` moves the checked-out branch.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The branch (`refs/heads/…`), or `HEAD` when none is checked out.
    pub branch: String,
    /// The commit it was at.
    pub from: BlobId,
    /// The last commit of the series.
    pub to: BlobId,
}

/// The journal.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// [`FORMAT`].
    pub format: u32,
    /// How far the change has come.
    pub phase: Phase,
    /// The base the series was made for.
    pub base: String,
    /// The files.
    pub entries: Vec<Entry>,
    /// Folders that did not exist before, outermost first.
    pub created_folders: Vec<TreePath>,
    /// The commits, if there are any.
    pub commits: Option<Move>,
}

impl Journal {
    /// The journal's path in a tree.
    pub fn path() -> String {
        format!("{STATE_FOLDER}/{JOURNAL}")
    }

    /// Reads the journal of a tree; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Journal`] for one that this chpatch did not write.
    pub fn read(tree: &Tree) -> Result<Option<Self>, Error> {
        let fault = |fault: String| Error::Journal {
            file: Self::path(),
            fault,
        };
        match tree.dir().symlink_metadata(STATE_FOLDER) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(metadata) if metadata.is_dir() => {}
            _ => {
                return Err(Error::Unfit {
                    file: STATE_FOLDER.to_owned(),
                    fault: "is not a folder of chpatch's; move it away".to_owned(),
                });
            }
        }
        let text = match tree.dir().read(Self::path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io(format!("read {}", Self::path())))?,
        };
        let journal: Self =
            serde_json::from_slice(&text).map_err(|error| fault(error.to_string()))?;
        match journal.format {
            FORMAT => Ok(Some(journal)),
            other => Err(fault(format!(
                "format {other} is another chpatch's; use that one to revert"
            ))),
        }
    }

    /// Makes this the tree's journal, durably and at once.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn write(&self, tree: &Tree) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::Journal {
            file: Self::path(),
            fault: error.to_string(),
        })?;
        tree.stage(NEW_JOURNAL, &text, None, Mode::Regular)?;
        let replace = || {
            let from = format!("{STATE_FOLDER}/{NEW_JOURNAL}");
            tree.dir().rename(from, tree.dir(), Self::path())?;
            tree.dir().open(STATE_FOLDER)?.sync_all()
        };
        replace().map_err(Error::io(format!("write {}", Self::path())))
    }

    /// Removes the journal, durably. What is left of the state folder means
    /// nothing from then on.
    ///
    /// # Errors
    /// A file that can't be removed.
    pub fn remove(tree: &Tree) -> Result<(), Error> {
        let remove = || {
            tree.dir().remove_file(Self::path())?;
            tree.dir().open(STATE_FOLDER)?.sync_all()
        };
        remove().map_err(Error::io(format!("remove {}", Self::path())))
    }
}

/// The name under which the content with this id is kept.
pub fn kept(blob: BlobId) -> String {
    format!("{KEPT}{blob}")
}

/// Creates the state folder, empty but for its ignore file.
///
/// # Errors
/// A folder that can't be created.
pub fn create_state(tree: &Tree) -> Result<(), Error> {
    clear_state(tree)?;
    tree.dir()
        .create_dir(STATE_FOLDER)
        .map_err(Error::io(format!("create {STATE_FOLDER}")))?;
    tree.stage(IGNORE, b"*\n", None, Mode::Regular)
}

/// Removes the state folder with all that chpatch keeps in it.
///
/// # Errors
/// A file that can't be removed, also one that is not chpatch's.
pub fn clear_state(tree: &Tree) -> Result<(), Error> {
    let clear = || {
        for entry in tree.dir().read_dir(STATE_FOLDER)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            let ours =
                [JOURNAL, NEW_JOURNAL, STAGED, INDEX, "index.lock", IGNORE].contains(&&*name);
            if ours || name.starts_with(KEPT) {
                tree.dir().remove_file(format!("{STATE_FOLDER}/{name}"))?;
            }
        }
        tree.dir().remove_dir(STATE_FOLDER)
    };
    match clear() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::io(format!("clear {STATE_FOLDER}"))),
    }
}
