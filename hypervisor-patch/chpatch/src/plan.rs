// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Which base a tree is, and what the steps make of its files.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use crate::blob::{BlobId, Mode};
use crate::error::Error;
use crate::lines::split;
use crate::path::TreePath;
use crate::series::{Base, Change, ChangeKind, Series, Version};
use crate::tree::{Found, Tree};

/// A file that is not as it should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// The file.
    pub path: TreePath,
    /// What should be there.
    pub wanted: Option<Version>,
    /// What is there.
    pub found: Option<Version>,
    /// Whether only the line ends differ.
    pub line_ends: bool,
}

impl Display for Difference {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match (self.wanted, self.found) {
            (Some(_), None) => write!(f, "{path} is missing"),
            (None, Some(_)) => write!(f, "{path} exists and should not"),
            _ if self.line_ends => write!(
                f,
                "{path} has CRLF line ends (check out with core.autocrlf=false)"
            ),
            (Some(wanted), Some(found)) if wanted.blob == found.blob => write!(
                f,
                "{path} has mode {}, not {}",
                found.mode.as_str(),
                wanted.mode.as_str()
            ),
            (Some(wanted), Some(found)) => {
                write!(f, "{path} is {}, not {}", found.blob, wanted.blob)
            }
            (None, None) => write!(f, "{path} is as it should be"),
        }
    }
}

/// Compares what is at `path` with what should be.
pub fn compare(
    path: &TreePath,
    wanted: Option<Version>,
    found: Option<&Found>,
) -> Option<Difference> {
    let version = found.map(Found::version);
    if version == wanted {
        return None;
    }
    let line_ends = match (wanted, found) {
        (Some(wanted), Some(found)) => BlobId::of(&without_cr(&found.content)) == wanted.blob,
        _ => false,
    };
    Some(Difference {
        path: path.clone(),
        wanted,
        found: version,
        line_ends: line_ends && version.map(|v| v.blob) != wanted.map(|v| v.blob),
    })
}

fn without_cr(content: &[u8]) -> Vec<u8> {
    let mut rest = Vec::with_capacity(content.len());
    for line in split(content) {
        match line.strip_suffix(b"\r\n") {
            Some(text) => {
                rest.extend(text);
                rest.push(b'\n');
            }
            None => rest.extend(line),
        }
    }
    rest
}

/// Every file that a base's steps touch, as found in a tree.
pub type Files = BTreeMap<TreePath, Option<Found>>;

/// Reads every file that the steps of `base` touch.
///
/// # Errors
/// As [`Tree::read`].
pub fn read_touched(tree: &Tree, base: &Base) -> Result<Files, Error> {
    let touched = base.touched().into_iter();
    touched
        .map(|path| Ok((path.clone(), tree.read(path)?)))
        .collect()
}

/// Where the files differ from the base.
pub fn differences(base: &Base, files: &Files) -> Vec<Difference> {
    files
        .iter()
        .filter_map(|(path, found)| {
            compare(path, base.preimages.get(path).copied(), found.as_ref())
        })
        .collect()
}

/// Where the files differ from the result of all steps.
pub fn differences_to_result(base: &Base, files: &Files) -> Vec<Difference> {
    let mut result: BTreeMap<&TreePath, Option<Version>> = files
        .keys()
        .map(|path| (path, base.preimages.get(path).copied()))
        .collect();
    for change in base.steps.iter().flat_map(|step| &step.changes) {
        let old = change.source().and_then(|(from, _)| {
            let version = result.get(from).copied().flatten();
            if from != &change.path {
                result.insert(from, None);
            }
            version
        });
        result.insert(&change.path, change.outcome(old));
    }
    files
        .iter()
        .filter_map(|(path, found)| {
            compare(path, result.get(path).copied().flatten(), found.as_ref())
        })
        .collect()
}

/// The base that a tree is, with the files its steps touch.
///
/// `wanted` names the base; without it, the one base that fits is taken. Where
/// more than one does, `head` (the commit that is checked out) decides.
///
/// # Errors
/// [`Error::UnknownTree`] with what differs from the nearest base;
/// [`Error::Ambiguous`]; [`Error::NoSuchBase`].
pub fn find_base<'a>(
    tree: &Tree,
    series: &'a Series,
    wanted: Option<&str>,
    head: Option<BlobId>,
) -> Result<(&'a Base, Files), Error> {
    let mut fitting = Vec::new();
    let mut nearest: Option<(&Base, Vec<Difference>)> = None;
    for base in candidates(series, wanted)? {
        let files = read_touched(tree, base)?;
        let differences = differences(base, &files);
        if differences.is_empty() {
            fitting.push((base, files));
        } else if nearest
            .as_ref()
            .is_none_or(|(_, least)| differences.len() < least.len())
        {
            nearest = Some((base, differences));
        }
    }
    if let Some(index) = fitting
        .iter()
        .position(|(base, _)| Some(base.commit) == head)
    {
        return Ok(fitting.swap_remove(index));
    }
    match (fitting.len(), nearest) {
        (1, _) => Ok(fitting.swap_remove(0)),
        (0, Some((base, differences))) => Err(Error::UnknownTree {
            bases: series.names(),
            nearest: base.name.clone(),
            differences,
        }),
        (0, None) => Err(Error::NoSuchBase {
            name: wanted.unwrap_or("(any)").to_owned(),
            bases: series.names(),
        }),
        _ => Err(Error::Ambiguous {
            bases: fitting.iter().map(|(base, _)| base.name.clone()).collect(),
        }),
    }
}

/// The bases to look at: all, or the one that is named.
///
/// # Errors
/// [`Error::NoSuchBase`].
pub fn candidates<'a>(series: &'a Series, wanted: Option<&str>) -> Result<Vec<&'a Base>, Error> {
    let Some(name) = wanted else {
        return Ok(series.bases.values().collect());
    };
    match series.bases.get(name) {
        Some(base) => Ok(vec![base]),
        None => Err(Error::NoSuchBase {
            name: name.to_owned(),
            bases: series.names(),
        }),
    }
}

/// A file as a step leaves it: `None` if it goes.
pub type Outcome = Option<(Mode, Vec<u8>)>;

/// What every step makes of the files it touches, worked out from the base's
/// files and checked against the recorded ids.
///
/// # Errors
/// [`Error::Inconsistent`] where a result is not what was recorded.
pub fn results(base: &Base, files: &Files) -> Result<Vec<BTreeMap<TreePath, Outcome>>, Error> {
    let mut now: BTreeMap<TreePath, Outcome> = files
        .iter()
        .map(|(path, found)| {
            let outcome = found.as_ref().map(|found| {
                (
                    Mode::of_permissions(found.permissions),
                    found.content.clone(),
                )
            });
            (path.clone(), outcome)
        })
        .collect();
    let mut steps = Vec::new();
    for step in &base.steps {
        let mut outcomes = BTreeMap::new();
        for change in &step.changes {
            let outcome = outcome(change, &now).map_err(|fault| Error::Inconsistent {
                base: base.name.clone(),
                step: step.folder.clone(),
                fault: format!("{}: {fault}", change.path),
            })?;
            if let Some((from, _)) = change.source() {
                outcomes.entry(from.clone()).or_insert(None);
            }
            outcomes.insert(change.path.clone(), outcome);
        }
        now.extend(outcomes.clone());
        steps.push(outcomes);
    }
    Ok(steps)
}

fn outcome(change: &Change, now: &BTreeMap<TreePath, Outcome>) -> Result<Outcome, String> {
    let old = || {
        change
            .source()
            .and_then(|(from, _)| now.get(from)?.as_ref())
            .ok_or("is not there")
    };
    match &change.kind {
        ChangeKind::Delete { .. } => Ok(None),
        ChangeKind::Add { mode, content, .. } => Ok(Some((*mode, content.clone()))),
        ChangeKind::Rewrite { mode, content, .. } => {
            Ok(Some((mode.unwrap_or(old()?.0), content.clone())))
        }
        ChangeKind::Edit {
            mode, edit, result, ..
        } => {
            let (old_mode, content) = old()?;
            let content = edit.apply(content)?;
            match BlobId::of(&content) {
                found if found == *result => Ok(Some((mode.unwrap_or(*old_mode), content))),
                found => Err(format!("the edit gives {found}, recorded was {result}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crlf_becomes_lf_and_nothing_else_does() {
        assert_eq!(without_cr(b"a\r\nb\rc\r\r\n\r"), b"a\nb\rc\r\n\r");
        assert_eq!(without_cr(b""), b"");
    }
}
