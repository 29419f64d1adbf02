// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Paths inside a source tree.

use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The folder in which a tree keeps what chpatch knows about it.
pub const STATE_FOLDER: &str = ".chpatch";

/// A path of a file relative to the top of a tree, with `/` between its parts.
///
/// No part is empty, `.`, `..`, `.git` or `.chpatch` (in any case of letters), so
/// a path by itself can name neither what is outside of the tree nor what git and
/// chpatch keep in it.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct TreePath(String);

impl TreePath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folders above the file, outermost first: `a`, `a/b` for `a/b/c`.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(end, _)| &self.0[..end])
    }
}

impl AsRef<Path> for TreePath {
    fn as_ref(&self) -> &Path {
        self.0.as_ref()
    }
}

impl Display for TreePath {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TreePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.chars().any(char::is_control) {
            return Err(format!("path {text:?} has a control character in it"));
        }
        for part in text.split('/') {
            let reserved = [".git", STATE_FOLDER];
            if part.is_empty() || part == "." || part == ".." {
                return Err(format!(
                    "path '{text}' is not a plain path relative to the tree"
                ));
            }
            if reserved.iter().any(|name| part.eq_ignore_ascii_case(name)) {
                return Err(format!(
                    "path '{text}' is inside '{part}', which is not the series' to touch"
                ));
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for TreePath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TreePath> for String {
    fn from(path: TreePath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_nothing_outside_of_the_tree() {
        for bad in [
            "",
            "/etc/passwd",
            "..",
            "../x",
            "a/../b",
            "a/./b",
            "a//b",
            "a/",
            ".git/config",
            "a/.GIT/hooks/x",
            ".chpatch/journal.json",
            "a\0b",
            "a\nb",
        ] {
            assert!(bad.parse::<TreePath>().is_err(), "{bad:?} was accepted");
        }
        for good in [
            "a",
            "a/b.rs",
            ".github/x",
            "…/é",
            "a b/c",
            "...",
            ".gitignore",
        ] {
            assert!(good.parse::<TreePath>().is_ok(), "{good:?} was refused");
        }
    }

    #[test]
    fn folders_come_outermost_first() {
        let path: TreePath = "a/b/c".parse().unwrap();
        assert_eq!(path.folders().collect::<Vec<_>>(), ["a", "a/b"]);
    }
}
