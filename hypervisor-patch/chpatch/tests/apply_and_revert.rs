// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Applying and reverting on trees with and without a repository.

mod common;

use std::fs;
use std::os::unix::fs::symlink;

use chpatch::commands;
use chpatch::error::Error;
use chpatch::tree::Tree;
use common::{BASE, Playground, edit, git, history, mode, names, revert, snapshot, write};

#[test]
fn apply_gives_what_was_committed_and_revert_what_was_there() {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    let before = snapshot(&tree);

    playground.apply(&tree).unwrap();
    let mut after = snapshot(&tree);
    after.retain(|path, _| !path.starts_with(".chpatch"));
    assert_eq!(after, playground.result());

    revert(&tree).unwrap();
    assert_eq!(snapshot(&tree), before);
}

#[test]
fn permissions_that_git_does_not_keep_survive() {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    mode(&tree.join("src/device.rs"), 0o600);
    mode(&tree.join("src/old.rs"), 0o640);
    let before = snapshot(&tree);

    playground.apply(&tree).unwrap();
    let after = snapshot(&tree);
    assert_eq!(after["src/device.rs"].0, 0o600);
    assert_eq!(after["src/old.rs"].0, 0o750);

    revert(&tree).unwrap();
    assert_eq!(snapshot(&tree), before);
}

#[test]
fn a_tree_that_is_no_base_is_refused_by_the_file() {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    edit(
        &tree.join("src/device.rs"),
        "line 30\n",
        "another line 30\n",
    );
    let before = snapshot(&tree);

    let error = playground.apply(&tree).unwrap_err();
    names(&error, &["src/device.rs", "v1.0", "clean checkout"]);
    assert_eq!(snapshot(&tree), before);
    let report = commands::check(&playground.series(), &tree, None).unwrap();
    assert!(report.bad);
    assert!(
        report
            .lines
            .iter()
            .any(|line| line.contains("src/device.rs")),
        "{report:?}"
    );
}

#[test]
fn files_that_no_step_touches_may_differ() {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    edit(&tree.join("untouched.txt"), "leave", "I left");
    playground.apply(&tree).unwrap();
}

#[test]
fn a_missing_file_is_named() {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    fs::remove_file(tree.join("crlf.txt")).unwrap();
    let before = snapshot(&tree);
    names(
        &playground.apply(&tree).unwrap_err(),
        &["crlf.txt is missing"],
    );
    assert_eq!(snapshot(&tree), before);
}

#[test]
fn a_file_where_a_new_one_goes_is_named() {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    write(&tree.join("new/deep/tool.sh"), "mine\n");
    let before = snapshot(&tree);
    names(
        &playground.apply(&tree).unwrap_err(),
        &["new/deep/tool.sh exists"],
    );
    assert_eq!(snapshot(&tree), before);
}

#[test]
fn crlf_line_ends_are_named_as_such() {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    let text = fs::read_to_string(tree.join("src/device.rs")).unwrap();
    fs::write(tree.join("src/device.rs"), text.replace('\n', "\r\n")).unwrap();
    names(
        &playground.apply(&tree).unwrap_err(),
        &["src/device.rs has CRLF line ends", "core.autocrlf"],
    );
}

#[test]
fn an_executable_bit_that_differs_is_named() {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    mode(&tree.join("src/device.rs"), 0o755);
    names(
        &playground.apply(&tree).unwrap_err(),
        &["src/device.rs has mode 100755, not 100644"],
    );
}

#[test]
fn read_only_files_and_folders_are_refused() {
    for (file, bits, named) in [
        ("src/device.rs", 0o444, "src/device.rs: is read-only"),
        ("gone", 0o555, "gone: is read-only"),
    ] {
        let playground = Playground::recorded();
        let tree = playground.tree("tree");
        let usual = snapshot(&tree)[file].0;
        mode(&tree.join(file), bits);
        let before = snapshot(&tree);
        let error = playground.apply(&tree).unwrap_err();
        names(&error, &[named, "chmod u+w"]);
        assert_eq!(snapshot(&tree), before);
        mode(&tree.join(file), usual);
    }
}

#[test]
fn applied_twice_is_refused() {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    playground.apply(&tree).unwrap();
    let after = snapshot(&tree);
    let error = playground.apply(&tree).unwrap_err();
    assert!(matches!(error, Error::AlreadyApplied { .. }), "{error}");
    names(&error, &["chpatch revert"]);
    assert_eq!(snapshot(&tree), after);
}

#[test]
fn a_series_that_came_by_other_means_is_recognised() {
    let playground = Playground::recorded();
    let error = playground.apply(&playground.upstream()).unwrap_err();
    names(&error, &["applied already", "git"]);
    let report = commands::check(&playground.series(), &playground.upstream(), None).unwrap();
    assert!(!report.bad, "{report:?}");
}

#[test]
fn revert_refuses_files_that_were_edited_since() {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    playground.apply(&tree).unwrap();
    edit(&tree.join("src/device.rs"), "ours 10\n", "mine 10\n");
    fs::remove_file(tree.join("src/rewritten.rs")).unwrap();
    let edited = snapshot(&tree);
    let error = revert(&tree).unwrap_err();
    names(
        &error,
        &[
            "src/device.rs",
            "src/rewritten.rs is missing",
            "nothing was touched",
        ],
    );
    assert_eq!(snapshot(&tree), edited);
    let report = commands::check(&playground.series(), &tree, None).unwrap();
    assert!(report.bad);
}

#[test]
fn revert_without_apply_is_refused() {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    let error = revert(&tree).unwrap_err();
    assert!(matches!(error, Error::NotApplied { .. }), "{error}");
}

#[test]
fn revert_keeps_what_others_put_into_new_folders() {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    playground.apply(&tree).unwrap();
    write(&tree.join("pmem-flush/target/built"), "by cargo\n");
    revert(&tree).unwrap();
    assert_eq!(
        fs::read_to_string(tree.join("pmem-flush/target/built")).unwrap(),
        "by cargo\n"
    );
    assert!(!tree.join("pmem-flush/src").exists());
}

#[test]
fn a_series_taken_out_by_hand_is_forgotten() {
    let playground = Playground::recorded();
    let tree = playground.clone_at_base("clone");
    playground.apply(&tree).unwrap();
    git(&tree, &["checkout", "-q", "--", "."]);
    git(&tree, &["clean", "-qfd"]);
    let report = playground.apply(&tree).unwrap();
    assert!(report.lines[0].contains("other means"), "{report:?}");
}

#[test]
fn symbolic_links_are_not_written_through() {
    for file in ["src/device.rs", "src", "new", "pmem-flush", ".chpatch"] {
        let playground = Playground::recorded();
        let tree = playground.tree("tree");
        let outside = playground.path("outside");
        if tree.join(file).exists() {
            fs::rename(tree.join(file), &outside).unwrap();
        } else {
            fs::create_dir(&outside).unwrap();
        }
        symlink(&outside, tree.join(file)).unwrap();
        let before = snapshot(playground.path("outside").parent().unwrap());
        let error = playground.apply(&tree).unwrap_err();
        names(&error, &[file]);
        assert!(matches!(error, Error::Unfit { .. }), "{error}");
        assert_eq!(snapshot(outside.parent().unwrap()), before, "{file}");
    }
}

#[test]
fn a_hard_link_elsewhere_keeps_its_content() {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    let outside = playground.path("outside.rs");
    fs::hard_link(tree.join("src/device.rs"), &outside).unwrap();
    let before = fs::read(&outside).unwrap();
    playground.apply(&tree).unwrap();
    assert_eq!(fs::read(&outside).unwrap(), before);
    assert_ne!(fs::read(tree.join("src/device.rs")).unwrap(), before);
}

#[test]
fn two_at_once_are_refused() {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    let other = Tree::open(&tree).unwrap();
    let lock = other.lock().unwrap();
    let error = playground.apply(&tree).unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    drop(lock);
    playground.apply(&tree).unwrap();
}

#[test]
fn commits_are_those_that_were_recorded() {
    let playground = Playground::recorded();
    let tree = playground.clone_at_base("clone");
    let base = git(&tree, &["rev-parse", "HEAD"]);
    playground.apply_commit(&tree, false).unwrap();
    assert_eq!(
        history(&tree, common::BASE),
        history(&playground.upstream(), common::BASE)
    );
    assert_eq!(git(&tree, &["status", "--porcelain"]), "");
    assert_eq!(
        git(&tree, &["log", "-1", "--format=%an <%ae>"]),
        "A. Tester <tester@example.org>"
    );

    revert(&tree).unwrap();
    assert_eq!(git(&tree, &["rev-parse", "HEAD"]), base);
    assert_eq!(git(&tree, &["symbolic-ref", "HEAD"]), "refs/heads/ours");
    assert_eq!(git(&tree, &["status", "--porcelain", "--ignored"]), "");
}

#[test]
fn sign_off_comes_on_request_only() {
    let playground = Playground::new();
    playground.make_steps();
    let upstream = playground.upstream();
    git(
        &upstream,
        &["commit", "-q", "--amend", "--no-edit", "--signoff"],
    );
    let signed = history(&upstream, common::BASE);
    let report = playground.record().unwrap();
    assert!(report.lines[0].contains("sign-off left out"), "{report:?}");

    let plain = playground.clone_at_base("plain");
    playground.apply_commit(&plain, false).unwrap();
    let messages = git(&plain, &["log", "--format=%B", "v1.0..HEAD"]);
    assert!(!messages.contains("Signed-off-by"), "{messages}");

    let mine = playground.clone_at_base("mine");
    playground.apply_commit(&mine, true).unwrap();
    let messages = git(&mine, &["log", "--format=%B", "v1.0..HEAD"]);
    assert_eq!(
        messages
            .matches("Signed-off-by: A. Tester <tester@example.org>")
            .count(),
        3
    );
    assert_eq!(history(&mine, common::BASE).last(), signed.last());
}

#[test]
fn no_hook_runs() {
    let playground = Playground::recorded();
    let tree = playground.clone_at_base("clone");
    let marks = playground.path("marks");
    // Each would also make its command fail, where git heeds that.
    let hook = format!("#!/bin/sh\necho \"$0\" >>'{}'\nexit 1\n", marks.display());
    let folders = [playground.path("hooks"), tree.join(".git/hooks")];
    for (file, name) in folders.iter().flat_map(|folder| {
        [
            "commit-msg",
            "fsmonitor-watchman",
            "post-commit",
            "post-index-change",
            "pre-commit",
            "prepare-commit-msg",
            "reference-transaction",
        ]
        .map(|name| (folder.join(name), name))
    }) {
        write(&file, &hook);
        mode(&file, 0o755);
        if name == "fsmonitor-watchman" {
            let file = file.to_str().expect("UTF-8");
            git(&tree, &["config", "core.fsmonitor", file]);
        }
    }
    for hooks in [None, folders[0].to_str()] {
        if let Some(hooks) = hooks {
            git(&tree, &["config", "core.hooksPath", hooks]);
        }
        playground.apply_commit(&tree, true).unwrap();
        commands::record(&playground.series(), &tree, BASE, None, &mut |_| Ok(())).unwrap();
        revert(&tree).unwrap();
        let ran = fs::read_to_string(&marks).unwrap_or_default();
        assert_eq!(ran, "", "ran with core.hooksPath {hooks:?}");
    }
}

#[test]
fn commits_are_in_utf_8_whatever_git_is_set_to() {
    let playground = Playground::recorded();
    let upstream = playground.upstream();
    git(
        &upstream,
        &["commit", "-q", "--amend", "-m", "device: Rewrite grün"],
    );
    playground.record().unwrap();
    let tree = playground.clone_at_base("clone");
    git(&tree, &["config", "i18n.commitEncoding", "latin1"]);
    playground.apply_commit(&tree, false).unwrap();
    let made = git(&tree, &["cat-file", "commit", "HEAD"]);
    assert!(!made.contains("\nencoding "), "{made}");
    assert_eq!(history(&tree, BASE), history(&upstream, BASE));

    let before = snapshot(&playground.series());
    commands::record(&playground.series(), &tree, BASE, None, &mut |_| Ok(())).unwrap();
    assert_eq!(snapshot(&playground.series()), before);
}

#[test]
fn commits_on_top_keep_revert_from_moving_the_branch() {
    let playground = Playground::recorded();
    let tree = playground.clone_at_base("clone");
    playground.apply_commit(&tree, false).unwrap();
    write(&tree.join("untouched.txt"), "mine\n");
    common::commit(&tree, "mine\n");
    let head = git(&tree, &["rev-parse", "HEAD"]);
    let before = snapshot(&tree);
    names(&revert(&tree).unwrap_err(), &["refs/heads/ours", &head]);
    assert_eq!(snapshot(&tree), before);
    assert_eq!(git(&tree, &["rev-parse", "HEAD"]), head);
}

#[test]
fn commits_need_a_clean_index_and_a_repository() {
    let playground = Playground::recorded();
    let tree = playground.clone_at_base("clone");
    write(&tree.join("untouched.txt"), "mine\n");
    git(&tree, &["add", "untouched.txt"]);
    let before = snapshot(&tree);
    names(
        &playground.apply_commit(&tree, false).unwrap_err(),
        &["staged"],
    );
    assert_eq!(snapshot(&tree), before);

    let bare = playground.tree("tree");
    names(
        &playground.apply_commit(&bare, false).unwrap_err(),
        &["--commit", "git work tree"],
    );

    // A repository further up is not the tree's.
    write(&tree.join("sub/x"), "");
    let below = tree.join("sub");
    for (path, (bits, content)) in snapshot(&playground.tree("again")) {
        if let Some(content) = content {
            write(&below.join(&path), str::from_utf8(&content).unwrap());
            mode(&below.join(&path), bits);
        }
    }
    names(
        &playground.apply_commit(&below, false).unwrap_err(),
        &["git work tree"],
    );
}
