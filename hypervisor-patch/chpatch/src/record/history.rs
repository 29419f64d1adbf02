// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What git tells about a commit.

use crate::blob::BlobId;
use crate::commit::SIGN_OFF;
use crate::error::Error;
use crate::git::Git;

/// One line of `git diff-tree --raw`.
pub(super) struct Raw {
    pub(super) old: (String, BlobId),
    pub(super) new: (String, BlobId),
    pub(super) status: char,
    pub(super) from: String,
    pub(super) path: String,
}

/// The commit's message, without sign-offs: they are the committer's own
/// statement and come back with `--signoff` only. Also whether there was one.
///
/// # Errors
/// A message that is empty or not UTF-8.
pub(super) fn message(git: &Git, commit: BlobId) -> Result<(String, bool), Error> {
    let fault = |fault: &str| Error::Commit {
        commit: commit.to_string(),
        fault: fault.to_owned(),
    };
    let object = git.run(&["cat-file", "commit", &commit.to_string()], b"")?;
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
        return Ok((message.to_owned(), false));
    }
    let message = match kept.trim().is_empty() {
        true => format!("{}\n", body.trim_end()),
        false => format!("{body}{kept}"),
    };
    Ok((message, true))
}

/// What differs between two commits, renames found.
///
/// # Errors
/// Names that are not UTF-8; those of git.
pub(super) fn raw_diff(git: &Git, parent: BlobId, commit: BlobId) -> Result<Vec<Raw>, Error> {
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
    let output = String::from_utf8(git.run(&args, b"")?)
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
