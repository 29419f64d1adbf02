// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What can go wrong. Every message names the file and, where there is one, the
//! remedy.

use std::io;
use std::path::PathBuf;

use thiserror::Error as ThisError;

use crate::plan::Difference;

/// An error of any of the commands.
#[derive(Debug, ThisError)]
pub enum Error {
    /// The operating system refused something.
    #[error("can't {action}: {source}")]
    Io {
        /// What was tried, with the file's name.
        action: String,
        /// Why it was refused.
        source: io::Error,
    },

    /// A file of the series does not follow the format.
    #[error("series file {}: {fault}", file.display())]
    Series {
        /// The file, relative to the series folder.
        file: PathBuf,
        /// What is wrong with it.
        fault: String,
    },

    /// The series' own parts do not fit together.
    #[error("series, base {base}, step {step}: {fault}")]
    Inconsistent {
        /// The base's name.
        base: String,
        /// The step's folder.
        step: String,
        /// What does not fit.
        fault: String,
    },

    /// Files that a step copies from this project have changed since.
    #[error("base {base}: {}; `chpatch refresh` records them as they are now", changes.join("; "))]
    Drift {
        /// The base's name.
        base: String,
        /// One text for each file.
        changes: Vec<String>,
    },

    /// There is no series for a base of this name.
    #[error("--base {name}: no such base; the series has {}", known(bases))]
    NoSuchBase {
        /// The name that was asked for.
        name: String,
        /// The names there are.
        bases: Vec<String>,
    },

    /// A file in the tree is something that is not to be written through.
    #[error("{file}: {fault}")]
    Unfit {
        /// The file, relative to the tree.
        file: String,
        /// What is the matter and what helps.
        fault: String,
    },

    /// The tree is none of the bases.
    #[error(
        "tree fits no base of the series ({}); nearest is {nearest}, where {}; \
         take a clean checkout of a base, or put these files back",
        known(bases),
        listed(differences)
    )]
    UnknownTree {
        /// The bases there are.
        bases: Vec<String>,
        /// The base with the fewest differences.
        nearest: String,
        /// Those differences.
        differences: Vec<Difference>,
    },

    /// The tree fits more than one base.
    #[error(
        "tree fits more than one base: name one of {} with --base",
        known(bases)
    )]
    Ambiguous {
        /// The bases it fits.
        bases: Vec<String>,
    },

    /// The series is in the tree already.
    #[error("series is applied already (base {base}); {remedy}")]
    AlreadyApplied {
        /// The base it was applied to.
        base: String,
        /// How to take it out.
        remedy: &'static str,
    },

    /// There is nothing to take out.
    #[error("no series is applied here by chpatch (no {file}); there is nothing to revert")]
    NotApplied {
        /// The journal that is not there.
        file: String,
    },

    /// Files have changed since chpatch wrote them.
    #[error(
        "{}; nothing was touched. Keep a copy of your changes, put each file back as chpatch \
         wrote it or as it was before the series (remove a new one), then try again",
        listed(differences)
    )]
    Edited {
        /// The files.
        differences: Vec<Difference>,
    },

    /// The journal in the tree is not one that chpatch wrote.
    #[error("{file}: {fault}")]
    Journal {
        /// The file, relative to the tree.
        file: String,
        /// What is wrong with it.
        fault: String,
    },

    /// Another chpatch works on this tree or writes to this series.
    #[error("another chpatch is at work in {}; wait for its end", folder.display())]
    Busy {
        /// The tree or the series folder.
        folder: PathBuf,
    },

    /// Something failed and the tree was put back.
    #[error("{source}; the tree was put back as it was")]
    RolledBack {
        /// What failed.
        source: Box<Error>,
    },

    /// Something failed, and so did putting the tree back.
    #[error(
        "{source}; then putting the tree back failed as well: {rollback}; \
         when that is mended, the next `chpatch apply` or `chpatch revert` puts the tree back"
    )]
    HalfWay {
        /// What failed first.
        source: Box<Error>,
        /// What failed next.
        rollback: Box<Error>,
    },

    /// Git could not be started or reported an error.
    #[error("`git {command}` failed: {message}")]
    Git {
        /// Its arguments.
        command: String,
        /// What it said.
        message: String,
    },

    /// The repository is not in a state for this.
    #[error("{fault}")]
    Repository {
        /// What is the matter and what helps.
        fault: String,
    },

    /// A commit cannot be recorded.
    #[error("commit {commit}: {fault}")]
    Commit {
        /// Its abbreviated id and subject.
        commit: String,
        /// What is the matter and what helps.
        fault: String,
    },
}

impl Error {
    /// An I/O error, with what was tried in words that follow "can't".
    pub fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}

fn known(bases: &[String]) -> String {
    match bases {
        [] => "none yet".to_owned(),
        _ => bases.join(", "),
    }
}

fn listed(differences: &[Difference]) -> String {
    let texts: Vec<_> = differences.iter().map(Difference::to_string).collect();
    texts.join("; ")
}
