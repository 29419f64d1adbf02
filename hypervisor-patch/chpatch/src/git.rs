// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The git command, on the repository at the top of a tree.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use crate::blob::BlobId;
use crate::error::Error;

/// Variables that would point git at another repository or index.
const REDIRECTING: [&str; 14] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// Settings that hold whatever the user's and the repository's are: no hook runs,
/// and a commit's text is taken for what it is.
const SETTINGS: [&str; 3] = [
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "i18n.commitEncoding=UTF-8",
];

/// The repository of a tree.
#[derive(Debug)]
pub struct Git {
    top: PathBuf,
    index: Option<PathBuf>,
}

impl Git {
    /// The repository whose work tree is `root`; `None` if `root` is none's.
    ///
    /// # Errors
    /// A `.git` that git does not accept, or that names object ids other than
    /// SHA-1.
    pub fn find(root: &Path) -> Result<Option<Self>, Error> {
        if !root.join(".git").exists() {
            return Ok(None);
        }
        let top = root
            .canonicalize()
            .map_err(Error::io(format!("find --tree {}", root.display())))?;
        let git = Self { top, index: None };
        if !git.text(&["rev-parse", "--show-prefix"])?.is_empty() {
            return Ok(None);
        }
        match git.text(&["rev-parse", "--show-object-format"])?.as_str() {
            "sha1" => Ok(Some(git)),
            other => Err(Error::Repository {
                fault: format!(
                    "the repository names objects by {other}; a series knows SHA-1 only"
                ),
            }),
        }
    }

    /// The same, for commands that can't do without.
    ///
    /// # Errors
    /// [`Error::Repository`] if `root` is no work tree's top.
    pub fn require(root: &Path, purpose: &str) -> Result<Self, Error> {
        Self::find(root)?.ok_or_else(|| Error::Repository {
            fault: format!(
                "{purpose} needs a git work tree, and --tree {} is not the top of one",
                root.display()
            ),
        })
    }

    /// The same repository with the index in the file `index`.
    pub fn with_index(&self, index: &Path) -> Self {
        Self {
            top: self.top.clone(),
            index: Some(index.to_owned()),
        }
    }

    /// Runs git with `args` and `input`; whether it exited with 0, and its output.
    ///
    /// # Errors
    /// A git that can't be started or was killed.
    pub fn try_run(&self, args: &[&str], input: &[u8]) -> Result<Output, Error> {
        let fail = |message: String| Error::Git {
            command: args.join(" "),
            message,
        };
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.top);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.args(args);
        for name in REDIRECTING {
            command.env_remove(name);
        }
        if let Some(index) = &self.index {
            command.env("GIT_INDEX_FILE", index);
        }
        command.env("LC_ALL", "C");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| fail(error.to_string()))?;
        let stdin = child.stdin.take();
        let output = thread::scope(|scope| {
            // Git may end without reading all of it; its exit status tells.
            scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(input)));
            child.wait_with_output()
        })
        .map_err(|error| fail(error.to_string()))?;
        match output.status.code() {
            Some(_) => Ok(output),
            None => Err(fail("it was killed".to_owned())),
        }
    }

    /// Runs git and returns what it wrote.
    ///
    /// # Errors
    /// [`Error::Git`] with its message if it did not exit with 0.
    pub fn run(&self, args: &[&str], input: &[u8]) -> Result<Vec<u8>, Error> {
        let output = self.try_run(args, input)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let message = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = message
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        Err(Error::Git {
            command: args.join(" "),
            message: lines.join("; "),
        })
    }

    /// Runs git and returns its one line.
    ///
    /// # Errors
    /// As [`Git::run`], or for a line that is not UTF-8.
    pub fn text(&self, args: &[&str]) -> Result<String, Error> {
        let output = String::from_utf8(self.run(args, b"")?);
        let text = output.map_err(|error| Error::Git {
            command: args.join(" "),
            message: error.to_string(),
        })?;
        Ok(text.trim_end_matches('\n').to_owned())
    }

    /// The object a command names.
    ///
    /// # Errors
    /// As [`Git::text`], or for what is no id.
    pub fn id(&self, args: &[&str]) -> Result<BlobId, Error> {
        self.text(args)?.parse().map_err(|message| Error::Git {
            command: args.join(" "),
            message,
        })
    }

    /// The commit that is checked out.
    ///
    /// # Errors
    /// As [`Git::run`], also for a repository without a commit.
    pub fn head(&self) -> Result<BlobId, Error> {
        self.id(&["rev-parse", "--verify", "HEAD^{commit}"])
    }

    /// The branch that is checked out, or `HEAD` if none is.
    ///
    /// # Errors
    /// As [`Git::run`].
    pub fn branch(&self) -> Result<String, Error> {
        let output = self.try_run(&["symbolic-ref", "-q", "HEAD"], b"")?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout)
                .trim_end()
                .to_owned()),
            false => Ok("HEAD".to_owned()),
        }
    }

    /// The content of a blob.
    ///
    /// # Errors
    /// As [`Git::run`].
    pub fn blob(&self, blob: BlobId) -> Result<Vec<u8>, Error> {
        self.run(&["cat-file", "blob", &blob.to_string()], b"")
    }
}
