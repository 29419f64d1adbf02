// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! From git commits to a base of the series.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::blob::BlobId;
use crate::commit::versions;
use crate::copied;
use crate::error::Error;
use crate::git::Git;
use crate::series::{Base, Series};
use crate::store;

mod history;
mod recorder;

use recorder::Recorder;

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
