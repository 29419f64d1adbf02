// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The TOML files of a series, exactly as they are written.
//!
//! Every table refuses fields it does not know. None has a field for a line that
//! was there before.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::blob::{BlobId, Mode};
use crate::lines::Span;
use crate::path::TreePath;

/// The only format there is.
pub const FORMAT: u32 = 1;

const LICENCE: &str = "# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause\n";

/// `series.toml`: what concerns all bases.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesFile {
    /// [`FORMAT`].
    pub format: u32,
    /// Folders of this project that steps copy into the tree.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copied: Vec<CopiedFolder>,
}

/// A folder of this project that goes into the tree as it is, and so is not
/// stored in the series as well.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CopiedFolder {
    /// The folder, relative to the one that holds the series folder.
    pub from: TreePath,
    /// Where it goes in the tree.
    pub to: TreePath,
    /// Files and folders in it that stay behind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<TreePath>,
}

/// `base.toml`: the tree that a base's steps start from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BaseFile {
    /// [`FORMAT`].
    pub format: u32,
    /// The base's name, that of its folder.
    pub name: String,
    /// The upstream commit, 40 hex digits.
    pub commit: BlobId,
    /// The steps' folders in their order.
    pub steps: Vec<String>,
    /// Every file of the base that a step reads, and the version it must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preimage: Vec<Preimage>,
}

/// A file of the base.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Preimage {
    /// Where it is.
    pub path: TreePath,
    /// Its mode.
    pub mode: Mode,
    /// Its content.
    pub blob: BlobId,
}

/// `step.toml`: what a step does. The commit message is in `message` beside it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StepFile {
    /// Files that are new.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Add>,
    /// Files that are written anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rewrite: Vec<Rewrite>,
    /// Files of which some lines change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edit: Vec<EditEntry>,
    /// Files that go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delete: Vec<Delete>,
}

/// A new file. Its content is `files/<path>` in the step's folder, unless one of
/// the last two fields says otherwise.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// Where it goes.
    pub path: TreePath,
    /// Its mode.
    pub mode: Mode,
    /// Its content.
    pub blob: BlobId,
    /// The step (`<base>/<step folder>`) that stores the same content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_as: Option<String>,
    /// The file of this project that holds the content, relative to the folder
    /// that holds the series folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copied: Option<TreePath>,
}

/// An edit that replaces all lines. The new content is `files/<path>`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// The file.
    pub path: TreePath,
    /// Its content before.
    pub blob: BlobId,
    /// Its content afterwards.
    pub result: BlobId,
    /// Its mode afterwards, if that changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The step (`<base>/<step folder>`) that stores the same content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_as: Option<String>,
}

/// An edit of line ranges. The new lines are `lines/<path>`; an edit without
/// ranges (a rename, a mode) has none.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EditEntry {
    /// The file.
    pub path: TreePath,
    /// Its path before, if it is renamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<TreePath>,
    /// Its content before.
    pub blob: BlobId,
    /// The ranges of it that change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at: Vec<Span>,
    /// Its content afterwards.
    pub result: BlobId,
    /// Its mode afterwards, if that changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The step (`<base>/<step folder>`) that stores the same new lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_as: Option<String>,
}

/// A file that goes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// The file.
    pub path: TreePath,
    /// Its content before.
    pub blob: BlobId,
}

/// Reads one of the tables above.
///
/// # Errors
/// A text with the line and what is wrong in it.
pub fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    let text = str::from_utf8(text).map_err(|error| error.to_string())?;
    toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
}

/// Writes one of the tables above.
///
/// # Errors
/// A text from the TOML library; no table above causes one.
pub fn render<T: Serialize>(table: &T) -> Result<Vec<u8>, String> {
    let text = toml::to_string_pretty(table).map_err(|error| error.to_string())?;
    Ok(format!("{LICENCE}\n{text}").into_bytes())
}
