// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Putting a series into a tree and taking it out, all or nothing.
//!
//! What is to be replaced is kept first, then the journal is written, then the
//! files are put in place one by one, each by a rename; then the branch moves;
//! then the journal says that all is done. Whatever happens in between, the
//! journal and the kept files lead back: [`settle`] follows them before every
//! other change of the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::blob::{BlobId, Mode};
use crate::commit::{self, Commits};
use crate::error::Error;
use crate::git::Git;
use crate::journal::{self, After, Before, Entry, FORMAT, Journal, Phase, STAGED};
use crate::path::{STATE_FOLDER, TreePath};
use crate::plan::{self, Difference, Files, Outcome};
use crate::series::Base;
use crate::tree::Tree;

/// Called before each change on disk with a name for it; an error from it is
/// taken for that change's failure. Tests stop the work at every point with it.
pub type Watch<'a> = &'a mut dyn FnMut(&str) -> Result<(), Error>;

/// Puts the steps of `base` into a tree whose `files` are those of the base.
///
/// # Errors
/// Nothing has changed when the error is [`Error::RolledBack`] or comes from the
/// checks before; see [`Error::HalfWay`] for the rest.
pub fn apply(
    tree: &Tree,
    base: &Base,
    files: &Files,
    commits: Option<&Commits>,
    watch: Watch<'_>,
) -> Result<Journal, Error> {
    base.refuse_drift()?;
    let results = plan::results(base, files)?;
    let last: BTreeMap<&TreePath, &Outcome> = results.iter().flatten().collect();
    let mut entries = Vec::new();
    for (path, outcome) in &last {
        let before = files
            .get(*path)
            .and_then(Option::as_ref)
            .map(|found| Before {
                blob: BlobId::of(&found.content),
                permissions: found.permissions,
            });
        let after = outcome.as_ref().map(|(mode, content)| After {
            blob: BlobId::of(content),
            mode: *mode,
        });
        if before.map(Before::version) != after.map(After::version) {
            tree.writable(path)?;
            entries.push(Entry {
                path: (*path).clone(),
                before,
                after,
            });
        }
    }
    if let Some(commits) = commits {
        commits.check(base)?;
    }
    let mut journal = Journal {
        format: FORMAT,
        phase: Phase::Applying,
        base: base.name.clone(),
        created_folders: missing_folders(tree, &entries)?,
        entries,
        commits: None,
    };
    let prepared = prepare(tree, base, files, &results, commits, &mut journal, watch);
    if let Err(source) = prepared {
        // The journal is the last thing that is prepared: nothing was touched.
        return match journal::clear_state(tree) {
            Ok(()) => Err(source),
            Err(rollback) => Err(Error::HalfWay {
                source: source.into(),
                rollback: rollback.into(),
            }),
        };
    }
    let done = put_in(tree, &last, commits, &mut journal, watch);
    match done {
        Ok(()) => Ok(journal),
        Err(source) => {
            journal.phase = Phase::Applying;
            match take_out(tree, &journal, watch) {
                Ok(()) => Err(Error::RolledBack {
                    source: source.into(),
                }),
                Err(rollback) => Err(Error::HalfWay {
                    source: source.into(),
                    rollback: rollback.into(),
                }),
            }
        }
    }
}

fn missing_folders(tree: &Tree, entries: &[Entry]) -> Result<Vec<TreePath>, Error> {
    let mut missing = BTreeSet::new();
    for entry in entries.iter().filter(|entry| entry.after.is_some()) {
        missing.extend(tree.missing_folders(&entry.path)?);
    }
    let path = |folder: &str| {
        folder.parse().map_err(|fault| Error::Unfit {
            file: folder.to_owned(),
            fault,
        })
    };
    missing.into_iter().map(path).collect()
}

fn prepare(
    tree: &Tree,
    base: &Base,
    files: &Files,
    results: &[BTreeMap<TreePath, Outcome>],
    commits: Option<&Commits>,
    journal: &mut Journal,
    watch: Watch<'_>,
) -> Result<(), Error> {
    watch("create the state folder")?;
    journal::create_state(tree)?;
    for entry in &journal.entries {
        if let (Some(before), Some(Some(found))) = (entry.before, files.get(&entry.path)) {
            watch(&format!("keep {}", entry.path))?;
            tree.stage(
                &journal::kept(before.blob),
                &found.content,
                None,
                Mode::Regular,
            )?;
        }
    }
    if let Some(commits) = commits {
        watch("make the commits")?;
        journal.commits = Some(commits.make(tree.root(), base, results)?);
    }
    watch("write the journal")?;
    journal.write(tree)
}

fn put_in(
    tree: &Tree,
    last: &BTreeMap<&TreePath, &Outcome>,
    commits: Option<&Commits>,
    journal: &mut Journal,
    watch: Watch<'_>,
) -> Result<(), Error> {
    for entry in journal.entries.iter().filter(|entry| entry.after.is_none()) {
        watch(&format!("remove {}", entry.path))?;
        tree.remove(&entry.path)?;
    }
    for entry in &journal.entries {
        let Some(Some((mode, content))) = last.get(&entry.path) else {
            continue;
        };
        let permissions = entry
            .before
            .map(|before| mode.on_permissions(before.permissions));
        watch(&format!("stage {}", entry.path))?;
        tree.stage(STAGED, content, permissions, *mode)?;
        watch(&format!("place {}", entry.path))?;
        tree.place(STAGED, &entry.path)?;
    }
    if let (Some(commits), Some(there)) = (commits, &journal.commits) {
        watch("move the branch")?;
        let versions = journal.entries.iter();
        let versions = versions.map(|entry| (&entry.path, entry.after.map(After::version)));
        commit::advance(&commits.git, there, versions)?;
    }
    watch("complete the journal")?;
    journal.phase = Phase::Applied;
    journal.write(tree)
}

/// Takes the series out of a tree again. `journal` is that of the tree. A file
/// that somebody has put back already stays as it is.
///
/// # Errors
/// [`Error::Edited`] with every file that is neither as the series left it nor as
/// it was before, and [`Error::Repository`] if there are commits on top; nothing
/// is touched then. After any other error the next run completes the work.
pub fn revert(tree: &Tree, journal: &Journal, watch: Watch<'_>) -> Result<(), Error> {
    let work = half_way(tree, journal)?;
    if let Some(commits) = &journal.commits {
        let git = Git::require(tree.root(), "reverting commits")?;
        commit::check_branch(&git, commits, &[commits.to])?;
        commit::refuse_staged(&git)?;
    }
    for (path, _) in work {
        tree.writable(path)?;
    }
    let journal = Journal {
        phase: Phase::Reverting,
        ..journal.clone()
    };
    watch("begin to revert")?;
    journal.write(tree)?;
    take_out(tree, &journal, watch)
}

/// Brings every file back to what it was, from wherever the work got to.
fn take_out(tree: &Tree, journal: &Journal, watch: Watch<'_>) -> Result<(), Error> {
    let work = half_way(tree, journal)?;
    let git = match &journal.commits {
        None => None,
        Some(commits) => {
            let git = Git::require(tree.root(), "reverting commits")?;
            commit::check_branch(&git, commits, &[commits.from, commits.to])?;
            Some((git, commits))
        }
    };
    for (path, before) in &work {
        if before.is_none() {
            watch(&format!("remove {path}"))?;
            tree.remove(path)?;
        }
    }
    for (path, before) in work {
        if let Some((before, content)) = before {
            let mode = before.version().mode;
            watch(&format!("stage {path}"))?;
            tree.stage(STAGED, &content, Some(before.permissions), mode)?;
            watch(&format!("place {path}"))?;
            tree.place(STAGED, path)?;
        }
    }
    remove_folders(tree, journal, watch)?;
    if let Some((git, commits)) = git {
        watch("move the branch back")?;
        let versions = journal.entries.iter();
        let versions = versions.map(|entry| (&entry.path, entry.before.map(Before::version)));
        commit::retreat(&git, commits, versions)?;
    }
    watch("remove the journal")?;
    Journal::remove(tree)?;
    watch("clear the state folder")?;
    journal::clear_state(tree)
}

/// Removes the folders that the series made and nothing is in any more.
fn remove_folders(tree: &Tree, journal: &Journal, watch: Watch<'_>) -> Result<(), Error> {
    for folder in journal.created_folders.iter().rev() {
        watch(&format!("remove {folder}"))?;
        match tree.dir().remove_dir(folder) {
            // What others have put there stays, and so does the folder.
            Err(error)
                if [io::ErrorKind::NotFound, io::ErrorKind::DirectoryNotEmpty]
                    .contains(&error.kind()) => {}
            other => other.map_err(Error::io(format!("remove {folder}")))?,
        }
    }
    Ok(())
}

type Work<'a> = Vec<(&'a TreePath, Option<(Before, Vec<u8>)>)>;

/// What is still to be brought back, with the kept content of each file.
fn half_way<'a>(tree: &Tree, journal: &'a Journal) -> Result<Work<'a>, Error> {
    let mut work = Vec::new();
    let mut differences: Vec<Difference> = Vec::new();
    for entry in &journal.entries {
        let found = tree.read(&entry.path)?;
        let before = entry.before.map(Before::version);
        let after = entry.after.map(After::version);
        if plan::compare(&entry.path, before, found.as_ref()).is_none() {
            continue;
        }
        if let Some(difference) = plan::compare(&entry.path, after, found.as_ref()) {
            differences.push(difference);
            continue;
        }
        work.push((
            &entry.path,
            entry.before.map(|before| kept(tree, before)).transpose()?,
        ));
    }
    match differences.is_empty() {
        true => Ok(work),
        false => Err(Error::Edited { differences }),
    }
}

fn kept(tree: &Tree, before: Before) -> Result<(Before, Vec<u8>), Error> {
    let file = format!("{}/{}", STATE_FOLDER, journal::kept(before.blob));
    let content = tree
        .dir()
        .read(&file)
        .map_err(Error::io(format!("read {file}")))?;
    match BlobId::of(&content) {
        found if found == before.blob => Ok((before, content)),
        found => Err(Error::Journal {
            file,
            fault: format!(
                "holds {found}; take the file's old version from git or a fresh checkout"
            ),
        }),
    }
}

/// What [`settle`] found and did.
#[derive(Debug)]
pub enum Settled {
    /// No series is in the tree.
    Without,
    /// The series is in the tree.
    With(Journal),
    /// An `apply` that did not get to its end was taken back.
    TookBackApply(Journal),
    /// A `revert` that did not get to its end was completed.
    CompletedRevert(Journal),
    /// The files are back to what they were by other means, such as a checkout;
    /// the journal is gone.
    Forgot(Journal),
}

/// Leads a tree out of whatever an earlier run left behind.
///
/// # Errors
/// [`Error::Edited`] with the files that have been changed since, so that neither
/// way is safe; [`Error::Journal`]; an I/O error.
pub fn settle(tree: &Tree, watch: Watch<'_>) -> Result<Settled, Error> {
    let Some(journal) = Journal::read(tree)? else {
        journal::clear_state(tree)?;
        return Ok(Settled::Without);
    };
    match journal.phase {
        Phase::Applying => {
            take_out(tree, &journal, watch)?;
            Ok(Settled::TookBackApply(journal))
        }
        Phase::Reverting => {
            take_out(tree, &journal, watch)?;
            Ok(Settled::CompletedRevert(journal))
        }
        Phase::Applied => {
            for entry in &journal.entries {
                let found = tree.read(&entry.path)?;
                let before = entry.before.map(Before::version);
                if plan::compare(&entry.path, before, found.as_ref()).is_some() {
                    return Ok(Settled::With(journal));
                }
            }
            if at_the_commits(tree, &journal)? {
                return Ok(Settled::With(journal));
            }
            remove_folders(tree, &journal, watch)?;
            watch("remove the journal")?;
            Journal::remove(tree)?;
            watch("clear the state folder")?;
            journal::clear_state(tree)?;
            Ok(Settled::Forgot(journal))
        }
    }
}

/// Whether the commits that `apply` made are what is checked out, whatever the
/// files are.
fn at_the_commits(tree: &Tree, journal: &Journal) -> Result<bool, Error> {
    let (Some(commits), Some(git)) = (&journal.commits, Git::find(tree.root())?) else {
        return Ok(false);
    };
    Ok(git.branch()? == commits.branch && git.head()? == commits.to)
}
