// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What each command does, and what it tells.

use std::path::Path;

use crate::blob::BlobId;
use crate::commit::Commits;
use crate::copied;
use crate::error::Error;
use crate::git::Git;
use crate::journal::Journal;
use crate::plan;
use crate::record::{self, Request};
use crate::series::{Base, Series};
use crate::store;
use crate::transaction::{self, Settled, Watch};
use crate::tree::Tree;

mod look;

pub use look::{check, list};

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

fn count(number: usize, of: &str) -> String {
    match number {
        1 => format!("1 {of}"),
        _ => format!("{number} {of}s"),
    }
}

/// The series, led out of what an earlier run left behind, and the lines of a
/// report that say so.
fn load(folder: &Path, watch: Watch<'_>) -> Result<(Series, Vec<String>), Error> {
    let told = match store::settle(folder, watch)? {
        store::Settled::Whole => None,
        store::Settled::TookBack => Some("took it back"),
        store::Settled::Completed => Some("completed it"),
    };
    let told = told.map(|done| format!("an earlier record or refresh was interrupted: {done}"));
    Ok((store::load(folder)?, told.into_iter().collect()))
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
    let (series, mut lines) = load(folder, watch)?;
    let tree = Tree::open(root)?;
    let _lock = tree.lock()?;
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
pub fn record(
    folder: &Path,
    root: &Path,
    name: &str,
    onto: Option<&str>,
    watch: Watch<'_>,
) -> Result<Report, Error> {
    let (mut series, mut lines) = load(folder, watch)?;
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
    store::save(&series, folder, watch)?;
    store::load(folder)?;
    lines.extend(remarks.into_iter().map(|remark| format!("note: {remark}")));
    lines.push(done);
    Ok(Report::good(lines))
}

/// `refresh`: records the copied files as they are now.
///
/// # Errors
/// Those of [`copied::refresh`] and [`store::save`].
pub fn refresh(folder: &Path, watch: Watch<'_>) -> Result<Report, Error> {
    let (mut series, mut lines) = load(folder, watch)?;
    let changes: usize = series.bases.values().map(|base| base.drift.len()).sum();
    copied::refresh(&store::project_of(folder), &mut series)?;
    store::save(&series, folder, watch)?;
    lines.push(match changes {
        0 => "copied files are as recorded".to_owned(),
        _ => format!("recorded {} of copied files", count(changes, "change")),
    });
    Ok(Report::good(lines))
}
