// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The commands that only look.

use std::path::Path;

use super::{Report, applied_by_other_means, count, head, load};
use crate::blob::Mode;
use crate::error::Error;
use crate::journal::{After, Before, Journal, Phase};
use crate::lines::split;
use crate::plan;
use crate::series::{Change, ChangeKind, Series};
use crate::tree::Tree;

/// `list`: the bases, the steps of each, and what they touch.
///
/// # Errors
/// A series that does not follow the format.
pub fn list(folder: &Path) -> Result<Report, Error> {
    let (series, lines) = load(folder, &mut |_| Ok(()))?;
    let mut report = Report::good(lines);
    if series.bases.is_empty() {
        report.lines.push(none_yet(folder));
    }
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

/// `check`: whether the series fits the tree, and where not. Leaves the tree alone.
///
/// # Errors
/// A tree or a series that can't be read.
pub fn check(folder: &Path, root: &Path, wanted: Option<&str>) -> Result<Report, Error> {
    let (series, told) = load(folder, &mut |_| Ok(()))?;
    let mut report = check_tree(folder, &series, root, wanted)?;
    report.lines.splice(0..0, told);
    Ok(report)
}

fn check_tree(
    folder: &Path,
    series: &Series,
    root: &Path,
    wanted: Option<&str>,
) -> Result<Report, Error> {
    let tree = Tree::open(root)?;
    if let Some(journal) = Journal::read(&tree)? {
        return check_journal(&tree, &journal);
    }
    if series.bases.is_empty() {
        return Ok(Report::bad(vec![none_yet(folder)]));
    }
    match plan::find_base(&tree, series, wanted, head(root)) {
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
        Err(Error::UnknownTree { .. }) => match applied_by_other_means(&tree, series, wanted)? {
            Some(base) => Ok(Report::good(vec![format!(
                "series is in the tree (base {}), though not by chpatch apply",
                base.name
            )])),
            None => {
                let mut report = Report::bad(vec!["tree fits no base of the series".to_owned()]);
                for base in plan::candidates(series, wanted)? {
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
    let (mut edited, mut back) = (Vec::new(), Vec::new());
    for entry in &journal.entries {
        let path = &entry.path;
        let found = tree.read(path)?;
        let after = entry.after.map(After::version);
        if let Some(difference) = plan::compare(path, after, found.as_ref()) {
            let before = entry.before.map(Before::version);
            match plan::compare(path, before, found.as_ref()) {
                Some(_) => edited.push(format!("  {difference}")),
                None => back.push(format!("  {path} is as it was before the series")),
            }
        }
    }
    let total = count(journal.entries.len(), "file");
    if edited.is_empty() && back.is_empty() {
        return Ok(Report::good(vec![format!(
            "series is applied (base {base}, {total})"
        )]));
    }
    let mut report = Report::bad(vec![format!(
        "series is applied (base {base}, {total}), but these have changed since:"
    )]);
    let only_back = edited.is_empty();
    report.lines.extend(back);
    report.lines.extend(edited);
    if only_back {
        report
            .lines
            .push("`chpatch revert` takes the rest out".to_owned());
    }
    Ok(report)
}
