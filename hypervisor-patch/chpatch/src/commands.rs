// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What each command does, and what it tells.

use std::path::Path;

use crate::blob::{BlobId, Mode};
use crate::commit::Commits;
use crate::copied;
use crate::error::Error;
use crate::git::Git;
use crate::journal::{After, Journal, Phase};
use crate::lines::split;
use crate::plan;
use crate::record::{self, Request};
use crate::series::{Base, Change, ChangeKind, Series};
use crate::store;
use crate::transaction::{self, Settled, Watch};
use crate::tree::Tree;

/// What a command has to tell.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// One element for each line.
    pub lines: Vec<String>,
    /// Whether the answer is a bad one, for a command that only asks.
    pub bad: bool,
}

impl Report {
    fn good(lines: Vec<String>) -> Self {
        Self { lines, bad: false }
    }

    fn bad(lines: Vec<String>) -> Self {
        Self { lines, bad: true }
    }
}

/// `list`: the bases, the steps of each, and what they touch.
///
/// # Errors
/// A series that does not follow the format.
pub fn list(folder: &Path) -> Result<Report, Error> {
    let series = store::load(folder)?;
    if series.bases.is_empty() {
        return Ok(Report::good(vec![none_yet(folder)]));
    }
    let mut report = Report::default();
    for base in series.bases.values() {
        report.lines.push(format!(
            "{} (upstream {}): {}",
            base.name,
            base.commit,
            count(base.steps.len(), "step")
        ));
        for step in &base.steps {
            report
                .lines
                .push(format!("  {}  {}", step.folder, step.subject()));
            report.lines.extend(
                step.changes
                    .iter()
                    .map(|change| format!("    {}", summary(change))),
            );
        }
        if let Err(error) = base.refuse_drift() {
            report.lines.push(format!("  drift: {error}"));
            report.bad = true;
        }
    }
    Ok(report)
}

fn none_yet(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    format!(
        "no series in {} yet; `chpatch record` makes one",
        folder.display()
    )
}

fn count(number: usize, of: &str) -> String {
    match number {
        1 => format!("1 {of}"),
        _ => format!("{number} {of}s"),
    }
}

fn lines(content: &[u8]) -> String {
    count(split(content).len(), "line")
}

fn summary(change: &Change) -> String {
    let path = &change.path;
    let executable = |mode: Option<Mode>| {
        mode.map(|mode| format!(", mode {}", mode.as_str()))
            .unwrap_or_default()
    };
    match &change.kind {
        ChangeKind::Add {
            content,
            copied: None,
            ..
        } => format!("add {path}: {}", lines(content)),
        ChangeKind::Add {
            copied: Some(source),
            ..
        } => format!("add {path}: a copy of {source}"),
        ChangeKind::Rewrite { content, mode, .. } => {
            format!("rewrite {path}: {}{}", lines(content), executable(*mode))
        }
        ChangeKind::Edit {
            from, edit, mode, ..
        } => {
            let gone: usize = edit.at.iter().map(|at| at.len).sum();
            let from = from
                .as_ref()
                .map(|from| format!(", from {from}"))
                .unwrap_or_default();
            format!(
                "edit {path}{from}: {}, {} in place of {gone}{}",
                count(edit.at.len(), "range"),
                lines(&edit.hunks.concat()),
                executable(*mode)
            )
        }
        ChangeKind::Delete { .. } => format!("delete {path}"),
    }
}

/// `check`: whether the series fits the tree, and where not. Writes nothing.
///
/// # Errors
/// A tree or a series that can't be read.
pub fn check(folder: &Path, root: &Path, wanted: Option<&str>) -> Result<Report, Error> {
    let series = store::load(folder)?;
    let tree = Tree::open(root)?;
    if let Some(journal) = Journal::read(&tree)? {
        return check_journal(&tree, &journal);
    }
    if series.bases.is_empty() {
        return Ok(Report::bad(vec![none_yet(folder)]));
    }
    match plan::find_base(&tree, &series, wanted, head(root)) {
        Ok((base, files)) => {
            base.refuse_drift()?;
            plan::results(base, &files)?;
            Ok(Report::good(vec![format!(
                "tree is {}; {} would touch {}",
                base.name,
                count(base.steps.len(), "step"),
                count(files.len(), "file")
            )]))
        }
        Err(Error::UnknownTree { .. }) => match applied_by_other_means(&tree, &series, wanted)? {
            Some(base) => Ok(Report::good(vec![format!(
                "series is in the tree (base {}), though not by chpatch apply",
                base.name
            )])),
            None => {
                let mut report = Report::bad(vec!["tree fits no base of the series".to_owned()]);
                for base in plan::candidates(&series, wanted)? {
                    let files = plan::read_touched(&tree, base)?;
                    let differences = plan::differences(base, &files);
                    report.lines.push(format!(
                        "{}: {} of {}:",
                        base.name,
                        count(differences.len(), "difference"),
                        count(files.len(), "file")
                    ));
                    report
                        .lines
                        .extend(differences.iter().map(|one| format!("  {one}")));
                }
                report
                    .lines
                    .push("take a clean checkout of a base, or put these files back".to_owned());
                Ok(report)
            }
        },
        Err(error) => Err(error),
    }
}

fn check_journal(tree: &Tree, journal: &Journal) -> Result<Report, Error> {
    let base = &journal.base;
    match journal.phase {
        Phase::Applying => {
            return Ok(Report::bad(vec![format!(
                "an apply (base {base}) was interrupted; the next apply or revert takes it back first"
            )]));
        }
        Phase::Reverting => {
            return Ok(Report::bad(vec![format!(
                "a revert (base {base}) was interrupted; the next apply or revert completes it first"
            )]));
        }
        Phase::Applied => {}
    }
    let mut differences = Vec::new();
    for entry in &journal.entries {
        let found = tree.read(&entry.path)?;
        let after = entry.after.map(After::version);
        differences.extend(plan::compare(&entry.path, after, found.as_ref()));
    }
    let total = count(journal.entries.len(), "file");
    if differences.is_empty() {
        return Ok(Report::good(vec![format!(
            "series is applied (base {base}, {total})"
        )]));
    }
    let mut report = Report::bad(vec![format!(
        "series is applied (base {base}, {total}), but these have changed since:"
    )]);
    report
        .lines
        .extend(differences.iter().map(|one| format!("  {one}")));
    Ok(report)
}

fn applied_by_other_means<'a>(
    tree: &Tree,
    series: &'a Series,
    wanted: Option<&str>,
) -> Result<Option<&'a Base>, Error> {
    for base in plan::candidates(series, wanted)? {
        let files = plan::read_touched(tree, base)?;
        if plan::differences_to_result(base, &files).is_empty() {
            return Ok(Some(base));
        }
    }
    Ok(None)
}

fn head(root: &Path) -> Option<BlobId> {
    Git::find(root).ok().flatten()?.head().ok()
}

/// What `apply` was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApplyOptions<'a> {
    /// The base by name.
    pub base: Option<&'a str>,
    /// Whether to make commits.
    pub commit: bool,
    /// Whether to sign them off.
    pub sign_off: bool,
}

/// `apply`: puts the series into the tree.
///
/// # Errors
/// Those of [`transaction::apply`]; a tree that is no base's.
pub fn apply(
    folder: &Path,
    root: &Path,
    options: ApplyOptions<'_>,
    watch: Watch<'_>,
) -> Result<Report, Error> {
    let series = store::load(folder)?;
    let tree = Tree::open(root)?;
    let _lock = tree.lock()?;
    let mut lines = Vec::new();
    match transaction::settle(&tree, watch)? {
        Settled::With(journal) => {
            return Err(Error::AlreadyApplied {
                base: journal.base,
                remedy: "`chpatch revert` takes it out",
            });
        }
        other => lines.extend(settled(&other)),
    }
    let (base, files) = match plan::find_base(&tree, &series, options.base, head(root)) {
        Err(error @ Error::UnknownTree { .. }) => {
            return Err(
                match applied_by_other_means(&tree, &series, options.base)? {
                    Some(base) => Error::AlreadyApplied {
                        base: base.name.clone(),
                        remedy: "not by chpatch apply, so take it out with git",
                    },
                    None => error,
                },
            );
        }
        other => other?,
    };
    let commits = match options.commit {
        false => None,
        true => Some(Commits {
            git: Git::require(root, "--commit")?,
            sign_off: options.sign_off,
        }),
    };
    let journal = transaction::apply(&tree, base, &files, commits.as_ref(), watch)?;
    let made = match &journal.commits {
        Some(commits) => format!(
            " as {} on {}",
            count(base.steps.len(), "commit"),
            commits.branch
        ),
        None => String::new(),
    };
    lines.push(format!(
        "applied {} to {}{made}: {}",
        count(base.steps.len(), "step"),
        base.name,
        count(journal.entries.len(), "file")
    ));
    Ok(Report::good(lines))
}

fn settled(settled: &Settled) -> Option<String> {
    match settled {
        Settled::Without | Settled::With(_) => None,
        Settled::TookBackApply(journal) => Some(format!(
            "an earlier apply (base {}) was interrupted: took it back",
            journal.base
        )),
        Settled::CompletedRevert(journal) => Some(format!(
            "an earlier revert (base {}) was interrupted: completed it",
            journal.base
        )),
        Settled::Forgot(journal) => Some(format!(
            "the series (base {}) was taken out by other means than chpatch: its journal is removed",
            journal.base
        )),
    }
}

/// `revert`: takes the series out of the tree.
///
/// # Errors
/// Those of [`transaction::revert`]; [`Error::NotApplied`].
pub fn revert(root: &Path, watch: Watch<'_>) -> Result<Report, Error> {
    let tree = Tree::open(root)?;
    let _lock = tree.lock()?;
    let state = transaction::settle(&tree, watch)?;
    let journal = match &state {
        Settled::With(journal) => journal,
        Settled::Without => {
            return Err(Error::NotApplied {
                file: Journal::path(),
            });
        }
        other => return Ok(Report::good(settled(other).into_iter().collect())),
    };
    transaction::revert(&tree, journal, watch)?;
    let back = match &journal.commits {
        Some(commits) => format!(", {} is back at {}", commits.branch, commits.from),
        None => String::new(),
    };
    Ok(Report::good(vec![format!(
        "reverted {}: {} as before{back}",
        journal.base,
        count(journal.entries.len(), "file")
    )]))
}

/// `record`: makes a base of the series from the commits in a tree.
///
/// # Errors
/// Those of [`record::record`] and [`store::save`].
pub fn record(folder: &Path, root: &Path, name: &str, onto: Option<&str>) -> Result<Report, Error> {
    let mut series = store::load(folder)?;
    let git = Git::require(root, "record")?;
    let request = Request {
        git: &git,
        name,
        onto,
        project: &store::project_of(folder),
    };
    let (base, remarks) = record::record(&request, &series)?;
    let done = format!(
        "recorded {} on {} ({})",
        count(base.steps.len(), "step"),
        base.name,
        base.commit
    );
    series.bases.insert(name.to_owned(), base);
    store::save(&series, folder)?;
    store::load(folder)?;
    let mut lines: Vec<_> = remarks
        .into_iter()
        .map(|remark| format!("note: {remark}"))
        .collect();
    lines.push(done);
    Ok(Report::good(lines))
}

/// `refresh`: records the copied files as they are now.
///
/// # Errors
/// Those of [`copied::refresh`] and [`store::save`].
pub fn refresh(folder: &Path) -> Result<Report, Error> {
    let mut series = store::load(folder)?;
    let changes: usize = series.bases.values().map(|base| base.drift.len()).sum();
    copied::refresh(&store::project_of(folder), &mut series)?;
    store::save(&series, folder)?;
    Ok(Report::good(vec![match changes {
        0 => "copied files are as recorded".to_owned(),
        _ => format!("recorded {} of copied files", count(changes, "change")),
    }]))
}
