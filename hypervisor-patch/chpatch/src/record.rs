// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! From git commits to a base of the series.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::blob::{BlobId, Mode};
use crate::commit::{SIGN_OFF, versions};
use crate::copied::{self, ProjectFile};
use crate::edit::{self, Edit};
use crate::error::Error;
use crate::git::Git;
use crate::path::TreePath;
use crate::series::{Base, Change, ChangeKind, Series, Step, Version, refuse_binary};
use crate::store;

/// What is to be recorded.
#[derive(Debug)]
pub struct Request<'a> {
    /// The repository with the commits checked out.
    pub git: &'a Git,
    /// The name of the base.
    pub name: &'a str,
    /// The upstream commit, as git understands it. Without it: the one recorded
    /// before for this base, else what git knows under the base's name.
    pub onto: Option<&'a str>,
    /// The folder that holds the series folder; copied folders are relative to it.
    pub project: &'a Path,
}

/// Records the commits between the base and what is checked out. Returns the base
/// and remarks for the developer.
///
/// # Errors
/// [`Error::Commit`] with the commit that a series can't hold and why;
/// [`Error::Repository`]; those of git.
pub fn record(request: &Request<'_>, series: &Series) -> Result<(Base, Vec<String>), Error> {
    let fault = |fault: String| Error::Repository { fault };
    if !store::is_name(request.name) {
        return Err(fault(format!(
            "--base '{}': a base's name has letters, digits, '.', '_' and '-' only",
            request.name
        )));
    }
    let git = request.git;
    let upstream = upstream(request, series)?;
    refuse_uncommitted(git)?;
    let mut recorder = Recorder {
        git,
        copied: Vec::new(),
        upstream: versions(git, &upstream.to_string())?,
        steps: Vec::new(),
        preimages: BTreeMap::new(),
        made: BTreeSet::new(),
        remarks: Vec::new(),
    };
    for folder in &series.copied {
        let files = copied::files(request.project, folder)?;
        recorder
            .copied
            .push((folder.to.clone(), folder.exclude.clone(), files));
    }
    let mut parent = upstream;
    let range = format!("{upstream}..HEAD");
    let listing = git.text(&["rev-list", "--reverse", "--topo-order", "--parents", &range])?;
    for line in listing.lines() {
        let ids: Vec<BlobId> = line.split(' ').filter_map(|id| id.parse().ok()).collect();
        let [commit, above] = ids[..] else {
            return Err(fault(format!(
                "commit {line} does not have exactly one parent; rebase so that the commits \
                 follow each other on {upstream}"
            )));
        };
        if above != parent {
            return Err(fault(format!(
                "commit {commit} does not follow {parent}; rebase so that the commits \
                 follow each other on {upstream}"
            )));
        }
        recorder.step(parent, commit)?;
        parent = commit;
    }
    if recorder.steps.is_empty() {
        return Err(fault(format!("there are no commits on top of {upstream}")));
    }
    let base = Base {
        name: request.name.to_owned(),
        commit: upstream,
        steps: recorder.steps,
        preimages: recorder.preimages,
        drift: Vec::new(),
    };
    base.verify()?;
    Ok((base, recorder.remarks))
}

fn upstream(request: &Request<'_>, series: &Series) -> Result<BlobId, Error> {
    let known = series
        .bases
        .get(request.name)
        .map(|base| base.commit.to_string());
    let name = match (request.onto, &known) {
        (Some(onto), _) => onto,
        (None, Some(commit)) => commit,
        (None, None) => request.name,
    };
    let git = request.git;
    let commit = git
        .id(&[
            "rev-parse",
            "--verify",
            "--end-of-options",
            &format!("{name}^{{commit}}"),
        ])
        .map_err(|_| Error::Repository {
            fault: format!(
                "git knows no commit '{name}' in --tree; fetch it, or name the upstream commit \
                 with --onto"
            ),
        })?;
    let ancestor = ["merge-base", "--is-ancestor", &commit.to_string(), "HEAD"];
    match git.try_run(&ancestor, b"")?.status.success() {
        true => Ok(commit),
        false => Err(Error::Repository {
            fault: format!(
                "HEAD is not on top of {commit} ({name}); check out the commits to record, \
                 or name the upstream commit with --onto"
            ),
        }),
    }
}

fn refuse_uncommitted(git: &Git) -> Result<(), Error> {
    let status = git.run(
        &["status", "--porcelain", "-z", "--untracked-files=no"],
        b"",
    )?;
    match status.split(|byte| *byte == 0).next() {
        Some([_, _, _, path @ ..]) => Err(Error::Repository {
            fault: format!(
                "{} has changes that are not committed; commit or stash them",
                String::from_utf8_lossy(path)
            ),
        }),
        _ => Ok(()),
    }
}

type CopiedFiles = (TreePath, Vec<TreePath>, BTreeMap<TreePath, ProjectFile>);

struct Recorder<'a> {
    git: &'a Git,
    copied: Vec<CopiedFiles>,
    upstream: BTreeMap<String, Version>,
    steps: Vec<Step>,
    preimages: BTreeMap<TreePath, Version>,
    /// Paths that an earlier step has written or removed.
    made: BTreeSet<TreePath>,
    remarks: Vec<String>,
}

/// One line of `git diff-tree --raw`.
struct Raw {
    old: (String, BlobId),
    new: (String, BlobId),
    status: char,
    from: String,
    path: String,
}

impl Recorder<'_> {
    fn step(&mut self, parent: BlobId, commit: BlobId) -> Result<(), Error> {
        let number = self.steps.len() + 1;
        let message = self.message(commit)?;
        let subject = message.lines().next().unwrap_or_default().to_owned();
        let folder = format!("{number:04}-{}", slug(&subject));
        let short = commit.to_string()[..12].to_owned();
        let fault = |fault: String| Error::Commit {
            commit: format!("{short} ({subject})"),
            fault,
        };
        let mut changes = Vec::new();
        for raw in self.raw_diff(parent, commit)? {
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

    /// The commit's message, without sign-offs: they are the committer's own
    /// statement and come back with `--signoff` only.
    fn message(&mut self, commit: BlobId) -> Result<String, Error> {
        let fault = |fault: &str| Error::Commit {
            commit: commit.to_string(),
            fault: fault.to_owned(),
        };
        let object = self
            .git
            .run(&["cat-file", "commit", &commit.to_string()], b"")?;
        let object = String::from_utf8(object)
            .map_err(|_| fault("its message is not UTF-8; write it anew in UTF-8"))?;
        let (headers, message) = object.split_once("\n\n").unwrap_or((&object, ""));
        if headers.lines().any(|line| line.starts_with("encoding ")) {
            return Err(fault("its message is not in UTF-8; write it anew in UTF-8"));
        }
        if message.trim().is_empty() {
            return Err(fault("it has no message; write one"));
        }
        let (body, trailers) = match message.trim_end().rfind("\n\n") {
            Some(end) => message.split_at(end + 2),
            None => (message, ""),
        };
        let kept: String = trailers
            .split_inclusive('\n')
            .filter(|line| !line.starts_with(SIGN_OFF))
            .collect();
        if kept.len() == trailers.len() {
            return Ok(message.to_owned());
        }
        self.remarks.push(format!(
            "{}: sign-off left out; `apply --commit --signoff` gives the user's own",
            message.lines().next().unwrap_or_default()
        ));
        Ok(match kept.trim().is_empty() {
            true => format!("{}\n", body.trim_end()),
            false => format!("{body}{kept}"),
        })
    }

    fn raw_diff(&self, parent: BlobId, commit: BlobId) -> Result<Vec<Raw>, Error> {
        let (parent, commit) = (parent.to_string(), commit.to_string());
        let args = [
            "diff-tree",
            "-r",
            "-z",
            "--raw",
            "--no-abbrev",
            "-M",
            &parent,
            &commit,
        ];
        let fault = |message: &str| Error::Git {
            command: args.join(" "),
            message: message.to_owned(),
        };
        let output = String::from_utf8(self.git.run(&args, b"")?)
            .map_err(|_| fault("a file's name is not UTF-8; a series can't hold it"))?;
        let mut fields = output.split_terminator('\0');
        let mut found = Vec::new();
        while let Some(meta) = fields.next() {
            let mut next = || {
                fields
                    .next()
                    .ok_or_else(|| fault("its output ends too early"))
            };
            let meta: Vec<_> = meta.trim_start_matches(':').split(' ').collect();
            let [old_mode, new_mode, old, new, status] = meta[..] else {
                return Err(fault("its output is not understood"));
            };
            let id = |text: &str| text.parse().map_err(|message: String| fault(&message));
            let from = next()?.to_owned();
            let path = match status.starts_with(['R', 'C']) {
                true => next()?.to_owned(),
                false => from.clone(),
            };
            found.push(Raw {
                old: (old_mode.to_owned(), id(old)?),
                new: (new_mode.to_owned(), id(new)?),
                status: status.chars().next().unwrap_or_default(),
                from,
                path,
            });
        }
        Ok(found)
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
                    self.remark_quotes(folder, &path, &before, &after);
                    ChangeKind::Rewrite {
                        pre: old.blob,
                        mode,
                        content: after,
                    }
                } else {
                    let edit = Edit::between(&before, &after);
                    self.remark_quotes(folder, &path, &before, &edit.hunks.concat());
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

    fn remark_quotes(&mut self, folder: &str, path: &TreePath, old: &[u8], new: &[u8]) {
        let quoted = edit::quoted(old, new);
        if let Some(first) = quoted.first() {
            self.remarks.push(format!(
                "{folder}: {path}: {} of the new lines also stand in the pre-image (moved or \
                 re-indented?), the first is: {}",
                quoted.len(),
                String::from_utf8_lossy(first)
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
