// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A series in memory, and the rules its parts obey.

use std::collections::{BTreeMap, BTreeSet};

use crate::blob::{BlobId, Mode};
use crate::edit::Edit;
use crate::error::Error;
use crate::manifest::CopiedFolder;
use crate::path::TreePath;

/// Everything a series folder holds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Series {
    /// Folders of this project that steps copy.
    pub copied: Vec<CopiedFolder>,
    /// The bases by name.
    pub bases: BTreeMap<String, Base>,
}

impl Series {
    /// The names of the bases.
    pub fn names(&self) -> Vec<String> {
        self.bases.keys().cloned().collect()
    }
}

/// An upstream tree and the steps on top of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Base {
    /// Its name, also that of its folder.
    pub name: String,
    /// The upstream commit.
    pub commit: BlobId,
    /// The steps in their order.
    pub steps: Vec<Step>,
    /// Every file of the base that a step reads.
    pub preimages: BTreeMap<TreePath, Version>,
    /// Files of this project that are no longer as a step recorded them; one
    /// text for each.
    pub drift: Vec<String>,
}

/// A commit in the making.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// The name of its folder.
    pub folder: String,
    /// The commit message.
    pub message: String,
    /// What it changes, ascending by path.
    pub changes: Vec<Change>,
}

impl Step {
    /// The message's first line.
    pub fn subject(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }
}

/// What a step does to a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// The file's path afterwards; for a file that goes, its path before.
    pub path: TreePath,
    /// What happens.
    pub kind: ChangeKind,
}

/// The kinds of [`Change`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ChangeKind {
    /// A new file.
    Add {
        /// Its mode.
        mode: Mode,
        /// Its content as recorded.
        blob: BlobId,
        /// Its content; differs from `blob` only where a copied file drifted.
        content: Vec<u8>,
        /// The file of this project that it is a copy of.
        copied: Option<TreePath>,
    },
    /// A file written anew.
    Rewrite {
        /// The content before.
        pre: BlobId,
        /// The mode afterwards, if it changes.
        mode: Option<Mode>,
        /// The content afterwards.
        content: Vec<u8>,
    },
    /// A file of which some lines, the path or the mode change.
    Edit {
        /// The path before, if it changes.
        from: Option<TreePath>,
        /// The content before.
        pre: BlobId,
        /// The mode afterwards, if it changes.
        mode: Option<Mode>,
        /// The ranges and the new lines.
        edit: Edit,
        /// The content afterwards.
        result: BlobId,
    },
    /// A file that goes.
    Delete {
        /// The content before.
        pre: BlobId,
    },
}

/// A version of a file, by mode and content id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Version {
    /// Its mode.
    pub mode: Mode,
    /// Its content.
    pub blob: BlobId,
}

impl Change {
    /// The path and content id the change starts from; none for a new file.
    pub fn source(&self) -> Option<(&TreePath, BlobId)> {
        match &self.kind {
            ChangeKind::Add { .. } => None,
            ChangeKind::Rewrite { pre, .. } | ChangeKind::Delete { pre } => {
                Some((&self.path, *pre))
            }
            ChangeKind::Edit { from, pre, .. } => Some((from.as_ref().unwrap_or(&self.path), *pre)),
        }
    }

    /// What is at [`Change::path`] afterwards, where `old` was at the source.
    pub(crate) fn outcome(&self, old: Option<Version>) -> Option<Version> {
        let kept = |mode: Option<Mode>| mode.or(old.map(|version| version.mode));
        let (mode, blob) = match &self.kind {
            ChangeKind::Add { mode, blob, .. } => (Some(*mode), *blob),
            ChangeKind::Rewrite { mode, content, .. } => (kept(*mode), BlobId::of(content)),
            ChangeKind::Edit { mode, result, .. } => (kept(*mode), *result),
            ChangeKind::Delete { .. } => return None,
        };
        mode.map(|mode| Version { mode, blob })
    }
}

impl Base {
    /// Every path that a step reads or writes.
    pub fn touched(&self) -> BTreeSet<&TreePath> {
        let changes = || self.steps.iter().flat_map(|step| &step.changes);
        changes()
            .map(|change| &change.path)
            .chain(changes().filter_map(Change::source).map(|(path, _)| path))
            .collect()
    }

    /// Refuses to go on with files that are not as they were recorded.
    ///
    /// # Errors
    /// [`Error::Drift`] with every such file.
    pub fn refuse_drift(&self) -> Result<(), Error> {
        match self.drift.as_slice() {
            [] => Ok(()),
            changes => Err(Error::Drift {
                base: self.name.clone(),
                changes: changes.to_vec(),
            }),
        }
    }

    /// Follows every file through the steps by its content id, and checks that
    /// each change finds what it names.
    ///
    /// # Errors
    /// [`Error::Inconsistent`] with the first step that does not fit.
    pub fn verify(&self) -> Result<(), Error> {
        let touched = self.touched();
        let mut now: BTreeMap<&TreePath, Option<Version>> = touched
            .iter()
            .map(|path| (*path, self.preimages.get(*path).copied()))
            .collect();
        let mut read = BTreeSet::new();
        for step in &self.steps {
            let fault = |fault: String| Error::Inconsistent {
                base: self.name.clone(),
                step: step.folder.clone(),
                fault,
            };
            self.verify_step(step, &mut now, &mut read).map_err(fault)?;
        }
        let fault = |fault: String| Error::Inconsistent {
            base: self.name.clone(),
            step: "(all)".to_owned(),
            fault,
        };
        if let Some(path) = self.preimages.keys().find(|path| !read.contains(path)) {
            return Err(fault(format!("no step reads the pre-image {path}")));
        }
        for path in &touched {
            if let Some(folder) = path
                .folders()
                .find(|folder| touched.iter().any(|other| other.as_str() == *folder))
            {
                return Err(fault(format!(
                    "{folder} is a file in one step and a folder of {path} in another; \
                     that is not supported"
                )));
            }
        }
        Ok(())
    }

    fn verify_step<'a>(
        &'a self,
        step: &'a Step,
        now: &mut BTreeMap<&'a TreePath, Option<Version>>,
        read: &mut BTreeSet<&'a TreePath>,
    ) -> Result<(), String> {
        if step.message.trim().is_empty() {
            return Err("the commit message is empty".to_owned());
        }
        if step.changes.is_empty() {
            return Err("it changes nothing".to_owned());
        }
        let mut seen = BTreeSet::new();
        let mut outcomes = Vec::new();
        for change in &step.changes {
            let path = &change.path;
            let source = change.source();
            let moved = source.map(|(from, _)| from).filter(|from| *from != path);
            if !seen.insert(path) || moved.is_some_and(|from| !seen.insert(from)) {
                return Err(format!("{path} is touched twice"));
            }
            let old = match source {
                None => None,
                Some((from, pre)) => match now.get(from).copied().flatten() {
                    Some(version) if version.blob == pre => Some((from, version)),
                    Some(version) => {
                        return Err(format!("{from} is {} here, not {pre}", version.blob));
                    }
                    None => return Err(format!("{from} does not exist here")),
                },
            };
            if let Some((from, _)) = old
                && self.preimages.contains_key(from)
            {
                read.insert(from);
            }
            let is_new = source.is_none() || moved.is_some();
            if is_new && now.get(path).copied().flatten().is_some() {
                return Err(format!("{path} exists already"));
            }
            if let ChangeKind::Edit { edit, .. } = &change.kind {
                edit.verify().map_err(|fault| format!("{path}: {fault}"))?;
            }
            if let ChangeKind::Add { content, .. } | ChangeKind::Rewrite { content, .. } =
                &change.kind
            {
                refuse_binary(content).map_err(|fault| format!("{path}: {fault}"))?;
            }
            let old = old.map(|(_, version)| version);
            let new = change.outcome(old);
            if new == old && moved.is_none() {
                return Err(format!("{path} does not change"));
            }
            outcomes.extend(moved.map(|from| (from, None)));
            outcomes.push((path, new));
        }
        now.extend(outcomes);
        Ok(())
    }
}

/// Refuses what is no text.
///
/// # Errors
/// A text, if there is a NUL byte, git's own sign of a binary file.
pub fn refuse_binary(content: &[u8]) -> Result<(), String> {
    match content.contains(&0) {
        true => Err("is a binary file (it has a NUL byte); a series holds text only".to_owned()),
        false => Ok(()),
    }
}
