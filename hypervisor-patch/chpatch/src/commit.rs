// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `apply --commit`: a commit for each step, made of git's own building blocks,
//! so that nothing can be seen of them until the branch moves.

use std::collections::BTreeMap;
use std::path::Path;

use crate::blob::{BlobId, Mode};
use crate::error::Error;
use crate::git::Git;
use crate::journal::{INDEX, Move};
use crate::path::{STATE_FOLDER, TreePath};
use crate::plan::Outcome;
use crate::series::{Base, Version};

/// What `apply --commit` needs.
#[derive(Debug)]
pub struct Commits {
    /// The repository.
    pub git: Git,
    /// Whether the user signs the commits off.
    pub sign_off: bool,
}

/// The trailer that is the user's statement, never the series'.
pub const SIGN_OFF: &str = "Signed-off-by:";

impl Commits {
    /// Checks that commits can be made: nothing is staged, and what is checked
    /// out is the base as far as the steps touch it.
    ///
    /// # Errors
    /// [`Error::Repository`] with the remedy.
    pub fn check(&self, base: &Base) -> Result<(), Error> {
        let fault = |fault: String| Err(Error::Repository { fault });
        refuse_staged(&self.git)?;
        let head = versions(&self.git, "HEAD")?;
        for path in base.touched() {
            if head.get(path.as_str()) != base.preimages.get(path) {
                return fault(format!(
                    "{path} is not in HEAD as it is in the work tree; commit or stash that first"
                ));
            }
        }
        Ok(())
    }

    /// Makes the commits. The branch stays where it is until [`Commits::advance`].
    ///
    /// # Errors
    /// As [`Git::run`]; among them a user without a name.
    pub fn make(
        &self,
        root: &Path,
        base: &Base,
        results: &[BTreeMap<TreePath, Outcome>],
    ) -> Result<Move, Error> {
        let git = &self.git;
        let from = git.head()?;
        let index = root
            .canonicalize()
            .map_err(Error::io(format!("find --tree {}", root.display())))?
            .join(STATE_FOLDER)
            .join(INDEX);
        let scratch = git.with_index(&index);
        scratch.run(&["read-tree", &from.to_string()], b"")?;
        let mut to = from;
        for (step, result) in base.steps.iter().zip(results) {
            let mut versions = Vec::new();
            for (path, outcome) in result {
                if let Some((_, content)) = outcome {
                    git.run(&["hash-object", "-w", "-t", "blob", "--stdin"], content)?;
                }
                versions.push((path, outcome.as_ref().map(version)));
            }
            set_index(&scratch, versions)?;
            let tree = scratch.text(&["write-tree"])?;
            let message = self.message(&step.message)?;
            let args = ["commit-tree", &tree, "-p", &to.to_string()];
            let commit = git.run(&args, &message)?;
            to = String::from_utf8_lossy(&commit)
                .trim_end()
                .parse()
                .map_err(|message| Error::Git {
                    command: args.join(" "),
                    message,
                })?;
        }
        Ok(Move {
            branch: git.branch()?,
            from,
            to,
        })
    }

    fn message(&self, message: &str) -> Result<Vec<u8>, Error> {
        if !self.sign_off {
            return Ok(message.as_bytes().to_vec());
        }
        let identity = self.git.text(&["var", "GIT_COMMITTER_IDENT"])?;
        // Name, address, seconds, zone.
        let who = identity.rsplitn(3, ' ').last().unwrap_or_default();
        let trailer = format!("{SIGN_OFF} {who}");
        self.git.run(
            &[
                "interpret-trailers",
                "--if-exists",
                "addIfDifferent",
                "--trailer",
                &trailer,
            ],
            message.as_bytes(),
        )
    }
}

fn version((mode, content): &(Mode, Vec<u8>)) -> Version {
    Version {
        mode: *mode,
        blob: BlobId::of(content),
    }
}

/// Moves the branch and the index to the last commit. `versions` are the files
/// that differ between the two commits, as they are in the last.
///
/// # Errors
/// As [`Git::run`], also when the branch has moved in between.
pub fn advance<'a>(
    git: &Git,
    commits: &Move,
    versions: impl IntoIterator<Item = (&'a TreePath, Option<Version>)>,
) -> Result<(), Error> {
    set_index(git, versions)?;
    let (to, from) = (commits.to.to_string(), commits.from.to_string());
    git.run(
        &["update-ref", "-m", "chpatch: apply", "HEAD", &to, &from],
        b"",
    )?;
    refresh(git)
}

/// The opposite of [`advance`], from wherever that got to.
///
/// # Errors
/// As [`Git::run`].
pub fn retreat<'a>(
    git: &Git,
    commits: &Move,
    versions: impl IntoIterator<Item = (&'a TreePath, Option<Version>)>,
) -> Result<(), Error> {
    let (to, from) = (commits.to.to_string(), commits.from.to_string());
    if git.head()? == commits.to {
        git.run(
            &["update-ref", "-m", "chpatch: revert", "HEAD", &from, &to],
            b"",
        )?;
    }
    set_index(git, versions)?;
    refresh(git)
}

/// Checks that the branch is at one of `places` and still the one that is checked
/// out.
///
/// # Errors
/// [`Error::Repository`] with the remedy.
pub fn check_branch(git: &Git, commits: &Move, places: &[BlobId]) -> Result<(), Error> {
    let (branch, head) = (git.branch()?, git.head()?);
    if branch == commits.branch && places.contains(&head) {
        return Ok(());
    }
    Err(Error::Repository {
        fault: format!(
            "{branch} is at {head}, but chpatch left {} at {}; check that out \
             (git checkout, git reset) or take the commits out with git",
            commits.branch, commits.to
        ),
    })
}

/// Refuses to go on with changes in the index.
///
/// # Errors
/// [`Error::Repository`].
pub fn refuse_staged(git: &Git) -> Result<(), Error> {
    let output = git.try_run(&["diff-index", "--cached", "--quiet", "HEAD", "--"], b"")?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Error::Repository {
            fault: "there are staged changes; commit, stash or unstage them first".to_owned(),
        }),
    }
}

fn refresh(git: &Git) -> Result<(), Error> {
    // Exits with 1 when files differ from the index, which is the user's affair.
    git.try_run(&["update-index", "-q", "--refresh"], b"")
        .map(|_| ())
}

fn set_index<'a>(
    git: &Git,
    versions: impl IntoIterator<Item = (&'a TreePath, Option<Version>)>,
) -> Result<(), Error> {
    let mut input = String::new();
    for (path, version) in versions {
        let line = match version {
            Some(Version { mode, blob }) => format!("{} {blob}\t{path}\0", mode.as_str()),
            None => format!("0 {:040}\t{path}\0", 0),
        };
        input.push_str(&line);
    }
    git.run(&["update-index", "-z", "--index-info"], input.as_bytes())
        .map(|_| ())
}

/// The regular files of a commit by path.
///
/// # Errors
/// As [`Git::run`].
pub fn versions(git: &Git, commit: &str) -> Result<BTreeMap<String, Version>, Error> {
    let listing = git.run(&["ls-tree", "-r", "-z", commit], b"")?;
    let listing = String::from_utf8_lossy(&listing);
    let parse = |line: &str| {
        let (meta, path) = line.split_once('\t')?;
        let mut meta = meta.split(' ');
        let mode = Mode::from_git(meta.next()?)?;
        let blob = meta.nth(1)?.parse().ok()?;
        Some((path.to_owned(), Version { mode, blob }))
    };
    Ok(listing.split('\0').filter_map(parse).collect())
}
