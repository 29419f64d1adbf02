// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Random trees and random commits: recorded, applied, committed, reverted.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use chpatch::commands::{self, ApplyOptions};
use chpatch::edit::Edit;
use chpatch::lines;
use chpatch::path::TreePath;
use common::{commit, git, history, init, mode, revert, snapshot, write};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use tempfile::TempDir;

type Files = BTreeMap<&'static str, (bool, String)>;

/// Text of few different lines, so that versions have much in common, with every
/// kind of line end.
fn text() -> impl Strategy<Value = String> {
    let line = select(vec![
        "",
        "a",
        "b",
        "longer line c",
        "+d",
        "@ 1",
        "\\ no newline at end",
        "é",
    ]);
    let end = select(vec!["\n", "\n", "\n", "\r\n"]);
    let lines = vec((line, end), 0..12);
    (lines, any::<bool>()).prop_map(|(lines, chop)| {
        let mut text: String = lines.iter().flat_map(|(line, end)| [*line, *end]).collect();
        if chop && text.ends_with('\n') {
            text.pop();
        }
        text
    })
}

fn files() -> impl Strategy<Value = Files> {
    let name = select(vec![
        "a.rs",
        "b",
        "dir/a.rs",
        "dir/sub/c.txt",
        "dir two/é – 世",
        "other/+x",
        "other/y",
    ]);
    btree_map(name, (any::<bool>(), text()), 1..7)
}

fn replace_files(top: &Path, files: &Files) {
    for entry in fs::read_dir(top).expect("a folder") {
        let entry = entry.expect("an entry");
        if entry.file_name() == ".git" {
            continue;
        }
        if entry.file_type().expect("a type").is_dir() {
            fs::remove_dir_all(entry.path()).expect("remove");
        } else {
            fs::remove_file(entry.path()).expect("remove");
        }
    }
    for (name, (executable, content)) in files {
        write(&top.join(name), content);
        mode(&top.join(name), if *executable { 0o755 } else { 0o644 });
    }
}

fn only_files(top: &Path) -> Vec<(String, Option<Vec<u8>>, bool)> {
    snapshot(top)
        .into_iter()
        .filter(|(path, (_, content))| content.is_some() && !path.starts_with(".chpatch"))
        .map(|(path, (bits, content))| (path, content, bits & 0o100 != 0))
        .collect()
}

fn round_trip(base: &Files, steps: &[Files]) {
    let scratch = TempDir::new().expect("a scratch folder");
    let series = scratch.path().join("series");
    let work = scratch.path().join("work");
    fs::create_dir(&work).expect("a folder");
    replace_files(&work, base);
    init(&work);
    commit(&work, "base\n");
    git(&work, &["tag", "base"]);
    let mut made = 0;
    for (number, files) in steps.iter().enumerate() {
        replace_files(&work, files);
        if git(&work, &["status", "--porcelain"]).is_empty() {
            continue;
        }
        commit(
            &work,
            &format!("part {number}: Step\n\n  Body – {number}\n\n\n"),
        );
        made += 1;
    }
    if made == 0 {
        let error = commands::record(&series, &work, "base", None, &mut |_| Ok(()))
            .expect_err("nothing to record");
        assert!(error.to_string().contains("no commits"), "{error}");
        return;
    }
    commands::record(&series, &work, "base", None, &mut |_| Ok(())).expect("record");

    let tree = scratch.path().join("tree");
    fs::create_dir(&tree).expect("a folder");
    replace_files(&tree, base);
    let before = snapshot(&tree);
    let options = ApplyOptions {
        base: Some("base"),
        ..ApplyOptions::default()
    };
    if only_files(&tree) == only_files(&work) {
        // The steps undo each other: the series is in every such tree.
        return;
    }
    commands::apply(&series, &tree, options, &mut |_| Ok(())).expect("apply");
    assert_eq!(only_files(&tree), only_files(&work));
    revert(&tree).expect("revert");
    assert_eq!(snapshot(&tree), before);

    let expected = history(&work, "base");
    git(&work, &["checkout", "-q", "-B", "again", "base"]);
    let options = ApplyOptions {
        commit: true,
        ..options
    };
    commands::apply(&series, &work, options, &mut |_| Ok(())).expect("apply");
    assert_eq!(history(&work, "base"), expected);
    assert_eq!(git(&work, &["status", "--porcelain"]), "");
    revert(&work).expect("revert");
    assert_eq!(history(&work, "base"), []);
    assert_eq!(only_files(&work), only_files(&tree));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    #[test]
    fn what_was_recorded_is_what_comes_back(base in files(), steps in vec(files(), 1..4)) {
        round_trip(&base, &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn an_edit_and_its_text_give_the_new_version(old in text(), new in text()) {
        let edit = Edit::between(old.as_bytes(), new.as_bytes());
        edit.verify().unwrap();
        let read = Edit {
            at: edit.at.iter().map(|at| at.to_string().parse().unwrap()).collect(),
            hunks: lines::parse(&lines::render(&edit.hunks)).unwrap(),
        };
        prop_assert_eq!(&read, &edit);
        prop_assert_eq!(read.apply(old.as_bytes()).unwrap(), new.as_bytes());
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in vec(any::<u8>(), 0..200), text in ".{0,20}") {
        let _ = lines::parse(&bytes);
        let _ = text.parse::<lines::Span>();
        let _ = text.parse::<TreePath>();
    }
}
