// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Somebody has put some of the files back before `revert`: by `git checkout`, by
//! copying, by removing what is new.

mod common;

use std::fs;
use std::path::PathBuf;

use chpatch::commands;
use common::{
    BASE, Playground, Snapshot, changed, edit, git, history, mode, names, put_back, revert,
    snapshot, write,
};

/// A file that was there before, and is with the series, in two versions.
const EDITED: &str = "src/device.rs";

/// A file that the series adds.
const ADDED: &str = "new/deep/tool.sh";

/// A file that the series deletes.
const DELETED: &str = "gone/for-good.txt";

/// A tree with the series in it, and how it was before.
fn applied(playground: &Playground, repository: bool) -> (PathBuf, Snapshot) {
    let tree = match repository {
        true => playground.clone_at_base("tree"),
        false => playground.tree("tree"),
    };
    let before = snapshot(&tree);
    playground.apply(&tree).expect("apply");
    (tree, before)
}

#[test]
fn a_file_that_git_checked_out_again_does_not_hold_up_revert() {
    let playground = Playground::recorded();
    let (tree, before) = applied(&playground, true);
    edit(&tree.join(EDITED), "ours 10\n", "mine 10\n");
    git(&tree, &["checkout", "-q", EDITED]);

    let report = revert(&tree).unwrap();
    assert!(report.lines[0].starts_with("reverted v1.0"), "{report:?}");
    assert_eq!(snapshot(&tree), before);
    assert_eq!(git(&tree, &["status", "--porcelain", "--ignored"]), "");
}

#[test]
fn each_file_may_be_back_already() {
    for repository in [false, true] {
        let playground = Playground::recorded();
        let (tree, before) = applied(&playground, repository);
        let files = changed(&tree, &before);
        for file in [EDITED, ADDED, DELETED, "src/moved.rs", "src/moved_away.rs"] {
            assert!(files.iter().any(|one| one == file), "{file}: {files:?}");
        }
        for file in files {
            put_back(&tree, &before, &file);
            revert(&tree).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert_eq!(snapshot(&tree), before, "{file}");
            playground.apply(&tree).unwrap();
        }
    }
}

#[test]
fn all_files_may_be_back_already() {
    for repository in [false, true] {
        let playground = Playground::recorded();
        let (tree, before) = applied(&playground, repository);
        for file in changed(&tree, &before) {
            put_back(&tree, &before, &file);
        }
        assert!(tree.join("new/deep").exists());
        let report = revert(&tree).unwrap();
        assert!(report.lines[0].contains("other means"), "{report:?}");
        assert_eq!(snapshot(&tree), before);
        if repository {
            assert_eq!(git(&tree, &["status", "--porcelain", "--ignored"]), "");
        }
    }
}

#[test]
fn a_file_that_is_back_does_not_cover_one_that_was_edited() {
    for repository in [false, true] {
        let playground = Playground::recorded();
        let (tree, before) = applied(&playground, repository);
        put_back(&tree, &before, EDITED);
        put_back(&tree, &before, ADDED);
        edit(&tree.join("src/rewritten.rs"), "text 20\n", "mine 20\n");
        let edited = snapshot(&tree);

        let text = names(
            &revert(&tree).unwrap_err(),
            &["src/rewritten.rs", "nothing was touched"],
        );
        assert!(!text.contains(EDITED) && !text.contains(ADDED), "{text}");
        assert_eq!(snapshot(&tree), edited);

        put_back(&tree, &before, "src/rewritten.rs");
        revert(&tree).unwrap();
        assert_eq!(snapshot(&tree), before);
    }
}

#[test]
fn what_is_neither_old_nor_new_is_refused() {
    let playground = Playground::recorded();
    for (file, text) in [(ADDED, "mine\n"), (DELETED, "mine\n"), (EDITED, "")] {
        let (tree, _) = applied(&playground, false);
        write(&tree.join(file), text);
        let edited = snapshot(&tree);
        names(&revert(&tree).unwrap_err(), &[file, "nothing was touched"]);
        assert_eq!(snapshot(&tree), edited);
        fs::remove_dir_all(tree).unwrap();
    }
}

#[test]
fn a_file_that_is_back_may_be_read_only() {
    let playground = Playground::recorded();
    let (tree, mut before) = applied(&playground, false);
    put_back(&tree, &before, EDITED);
    mode(&tree.join(EDITED), 0o444);
    before.get_mut(EDITED).unwrap().0 = 0o444;
    revert(&tree).unwrap();
    assert_eq!(snapshot(&tree), before);
}

#[test]
fn check_tells_which_files_are_back() {
    let playground = Playground::recorded();
    let (tree, before) = applied(&playground, false);
    put_back(&tree, &before, EDITED);
    let check = || commands::check(&playground.series(), &tree, None).unwrap();
    let back = "  src/device.rs is as it was before the series";
    let revert = "`chpatch revert` takes the rest out";
    let report = check();
    assert!(report.bad, "{report:?}");
    assert_eq!(report.lines[1..], [back, revert]);

    edit(&tree.join("src/rewritten.rs"), "text 20\n", "mine 20\n");
    let report = check();
    assert!(report.bad, "{report:?}");
    assert_eq!(report.lines[1], back);
    assert!(report.lines[2].contains("src/rewritten.rs"), "{report:?}");
    assert!(
        !report.lines.iter().any(|line| line == revert),
        "{report:?}"
    );
}

#[test]
fn commits_are_taken_back_though_files_are_back_already() {
    let playground = Playground::recorded();
    let tree = playground.clone_at_base("tree");
    let before = snapshot(&tree);
    for files in [&[EDITED][..], &["."]] {
        playground.apply_commit(&tree, false).unwrap();
        let restore = ["restore", "--source", BASE, "--worktree", "--"];
        git(&tree, &[&restore[..], files].concat());
        revert(&tree).unwrap();
        assert_eq!(snapshot(&tree), before);
        assert_eq!(history(&tree, BASE), []);
        assert_eq!(git(&tree, &["status", "--porcelain", "--ignored"]), "");
    }
}

#[test]
fn staged_files_hold_up_the_revert_of_commits_as_ever() {
    let playground = Playground::recorded();
    let tree = playground.clone_at_base("tree");
    playground.apply_commit(&tree, false).unwrap();
    git(&tree, &["checkout", "-q", BASE, "--", EDITED]);
    let staged = snapshot(&tree);
    names(&revert(&tree).unwrap_err(), &["staged"]);
    assert_eq!(snapshot(&tree), staged);
    assert_eq!(history(&tree, BASE).len(), 3);
}
