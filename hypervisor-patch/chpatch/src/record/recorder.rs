// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A step from a commit.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{self, Raw};
use crate::blob::{BlobId, Mode};
use crate::copied::ProjectFile;
use crate::edit::{self, Edit};
use crate::error::Error;
use crate::git::Git;
use crate::lines::split;
use crate::path::TreePath;
use crate::series::{Change, ChangeKind, Step, Version, refuse_binary};

pub(super) type CopiedFiles = (TreePath, Vec<TreePath>, BTreeMap<TreePath, ProjectFile>);

/// The steps so far, and what they stand on.
pub(super) struct Recorder<'a> {
    pub(super) git: &'a Git,
    pub(super) copied: Vec<CopiedFiles>,
    pub(super) upstream: BTreeMap<String, Version>,
    pub(super) steps: Vec<Step>,
    pub(super) preimages: BTreeMap<TreePath, Version>,
    /// Paths that an earlier step has written or removed.
    pub(super) made: BTreeSet<TreePath>,
    pub(super) remarks: Vec<String>,
}

impl Recorder<'_> {
    /// Adds the step that `commit` is on top of `parent`.
    pub(super) fn step(&mut self, parent: BlobId, commit: BlobId) -> Result<(), Error> {
        let number = self.steps.len() + 1;
        let (message, signed) = history::message(self.git, commit)?;
        let subject = message.lines().next().unwrap_or_default().to_owned();
        if signed {
            self.remarks.push(format!(
                "{subject}: sign-off left out; `apply --commit --signoff` gives the user's own"
            ));
        }
        let folder = format!("{number:04}-{}", slug(&subject));
        let short = commit.to_string()[..12].to_owned();
        let fault = |fault: String| Error::Commit {
            commit: format!("{short} ({subject})"),
            fault,
        };
        let mut changes = Vec::new();
        for raw in history::raw_diff(self.git, parent, commit)? {
            let (change, old) = self.change(&raw, &folder).map_err(|error| match error {
                Refused::Error(error) => error,
                Refused::Fault(text) => fault(format!("{}: {text}", raw.path)),
            })?;
            if let (Some((path, _)), Some(old)) = (change.source(), old)
                && !self.made.contains(path)
            {
                self.preimages.insert(path.clone(), old);
            }
            changes.push(change);
        }
        if changes.is_empty() {
            return Err(fault("changes nothing; drop it".to_owned()));
        }
        self.check_copied(&changes).map_err(fault)?;
        for change in &changes {
            self.made.insert(change.path.clone());
            self.made
                .extend(change.source().map(|(path, _)| path.clone()));
        }
        changes.sort_by(|one, other| one.path.cmp(&other.path));
        self.steps.push(Step {
            folder,
            message,
            changes,
        });
        Ok(())
    }

    /// The change that a line of the diff stands for, and the version it starts
    /// from.
    fn change(&mut self, raw: &Raw, folder: &str) -> Result<(Change, Option<Version>), Refused> {
        let path: TreePath = raw.path.parse()?;
        let version = |(mode, blob): &(String, BlobId)| match Mode::from_git(mode) {
            Some(mode) => Ok(Version { mode, blob: *blob }),
            None => Err(format!(
                "mode {mode} is no regular file; a series holds regular files only"
            )),
        };
        let read = |blob: BlobId| -> Result<Vec<u8>, Refused> {
            let content = self.git.blob(blob)?;
            refuse_binary(&content)?;
            Ok(content)
        };
        let (kind, old) = match raw.status {
            'A' => {
                let Version { mode, blob } = version(&raw.new)?;
                let content = read(blob)?;
                let copied = self.copied_source(&path, mode, &content)?;
                let kind = ChangeKind::Add {
                    mode,
                    blob,
                    content,
                    copied,
                };
                (kind, None)
            }
            'D' => {
                let old = version(&raw.old)?;
                (ChangeKind::Delete { pre: old.blob }, Some(old))
            }
            'M' | 'R' => {
                let (old, new) = (version(&raw.old)?, version(&raw.new)?);
                let (before, after) = (read(old.blob)?, read(new.blob)?);
                let mode = (old.mode != new.mode).then_some(new.mode);
                let kind = if raw.status == 'M' && edit::is_rewrite(&before, &after) {
                    self.remark_quotes(folder, &path, &before, (1..).zip(split(&after)));
                    ChangeKind::Rewrite {
                        pre: old.blob,
                        mode,
                        content: after,
                    }
                } else {
                    let edit = Edit::between(&before, &after);
                    self.remark_quotes(folder, &path, &before, edit.new_lines());
                    ChangeKind::Edit {
                        from: (raw.from != raw.path)
                            .then(|| raw.from.parse())
                            .transpose()?,
                        pre: old.blob,
                        mode,
                        edit,
                        result: new.blob,
                    }
                };
                (kind, Some(old))
            }
            other => {
                return Err(Refused::Fault(format!(
                    "a change of kind '{other}' can't be recorded; a series holds regular files only"
                )));
            }
        };
        if let Some(old) = old {
            let from: TreePath = raw.from.parse()?;
            if !self.made.contains(&from) && self.upstream.get(from.as_str()) != Some(&old) {
                return Err(Refused::Fault("is not as in the base".to_owned()));
            }
        }
        Ok((Change { path, kind }, old))
    }

    fn remark_quotes<'a>(
        &mut self,
        folder: &str,
        path: &TreePath,
        old: &[u8],
        new: impl IntoIterator<Item = (usize, &'a [u8])>,
    ) {
        for (number, line) in edit::quoted(old, new) {
            self.remarks.push(format!(
                "{folder}: {path}:{number} also stands in the pre-image (moved or re-indented?): {}",
                String::from_utf8_lossy(line)
            ));
        }
    }

    /// The file of this project that a new file is a copy of, if it is to be one.
    fn copied_source(
        &self,
        path: &TreePath,
        mode: Mode,
        content: &[u8],
    ) -> Result<Option<TreePath>, String> {
        for (to, exclude, files) in &self.copied {
            let Some(inside) = path.as_str().strip_prefix(&format!("{to}/")) else {
                continue;
            };
            let excluded = |above: &TreePath| {
                inside == above.as_str() || inside.starts_with(&format!("{above}/"))
            };
            if exclude.iter().any(excluded) {
                continue;
            }
            return match files.get(path) {
                Some(file) if file.content == content && file.mode == mode => {
                    Ok(Some(file.source.clone()))
                }
                Some(file) => Err(format!(
                    "differs from {}, of which it should be a copy; copy that over and amend \
                     the commit",
                    file.source
                )),
                None => Err(format!(
                    "is in the copied folder {to}, but not in this project; remove it from the \
                     commit, or exclude it in series.toml"
                )),
            };
        }
        Ok(None)
    }

    /// A step that copies one file of a folder copies them all.
    fn check_copied(&self, changes: &[Change]) -> Result<(), String> {
        let added: BTreeSet<_> = changes
            .iter()
            .filter(|change| {
                matches!(
                    change.kind,
                    ChangeKind::Add {
                        copied: Some(_),
                        ..
                    }
                )
            })
            .map(|change| &change.path)
            .collect();
        for (_, _, files) in &self.copied {
            if files.keys().any(|path| added.contains(path))
                && let Some((path, file)) = files.iter().find(|(path, _)| !added.contains(path))
            {
                return Err(format!(
                    "lacks {path}, a copy of {}; copy it over and amend the commit, or \
                     exclude it in series.toml",
                    file.source
                ));
            }
        }
        Ok(())
    }
}

/// Why a change can't be recorded: a text that still needs the commit's name, or
/// an error that has its own.
enum Refused {
    Fault(String),
    Error(Error),
}

impl From<String> for Refused {
    fn from(text: String) -> Self {
        Self::Fault(text)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// A folder name of a commit's subject, at most 52 characters.
fn slug(subject: &str) -> String {
    let mut slug = String::new();
    for letter in subject.chars() {
        if letter.is_ascii_alphanumeric() || letter == '_' {
            slug.push(letter);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(52);
    match slug.trim_end_matches('-') {
        "" => "step".to_owned(),
        slug => slug.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store;

    #[test]
    fn folders_are_named_after_subjects() {
        assert_eq!(
            slug("virtio-devices: pmem: Drain, then pause"),
            "virtio-devices-pmem-Drain-then-pause"
        );
        assert_eq!(slug("…"), "step");
        assert!(store::is_name(&slug("../../etc: é")));
    }
}
