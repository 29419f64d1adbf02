// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What `record` takes, what it refuses, and how bases share what they store.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use chpatch::commands::{self, ApplyOptions};
use chpatch::error::Error;
use chpatch::store;
use common::{
    BASE, Playground, commit, copy_crate, edit, git, history, mode, names, revert, snapshot, write,
};

#[test]
fn what_a_series_cannot_hold_is_refused_by_the_commit() {
    type Change = fn(&Playground);
    let cases: [(Change, &[&str]); 9] = [
        (
            |playground| {
                fs::write(playground.upstream().join("image.bin"), b"a\0b").unwrap();
                commit(&playground.upstream(), "image: Add\n");
            },
            &["image: Add", "image.bin", "binary"],
        ),
        (
            |playground| {
                symlink("Cargo.toml", playground.upstream().join("link")).unwrap();
                commit(&playground.upstream(), "link: Add\n");
            },
            &["link: Add", "link", "regular file"],
        ),
        (
            |playground| {
                git(
                    &playground.upstream(),
                    &["commit", "-q", "--allow-empty", "-m", "void: Do nothing"],
                );
            },
            &["void: Do nothing", "changes nothing"],
        ),
        (
            |playground| {
                let upstream = playground.upstream();
                git(&upstream, &["checkout", "-q", "-b", "side", BASE]);
                write(&upstream.join("side.txt"), "side\n");
                commit(&upstream, "side: Add\n");
                git(&upstream, &["checkout", "-q", "-"]);
                write(&upstream.join("main.txt"), "main\n");
                commit(&upstream, "main: Add\n");
                git(&upstream, &["merge", "-q", "-m", "merge: Side", "side"]);
            },
            &["does not follow", "rebase"],
        ),
        (
            |playground| {
                write(&playground.upstream().join("new.txt"), "new\n");
                commit(&playground.upstream(), "new: Add\n");
                edit(&playground.upstream().join("Cargo.toml"), "\"a\"", "\"z\"");
            },
            &["Cargo.toml", "not committed"],
        ),
        (|_| {}, &["no commits on top"]),
        (
            |playground| {
                copy_crate(playground);
                edit(
                    &playground.upstream().join("pmem-flush/src/lib.rs"),
                    "engine",
                    "motor",
                );
                commit(&playground.upstream(), "pmem-flush: Add\n");
            },
            &[
                "pmem-flush: Add",
                "pmem-flush/src/lib.rs",
                "differs",
                "copy that over",
            ],
        ),
        (
            |playground| {
                copy_crate(playground);
                fs::remove_file(playground.upstream().join("pmem-flush/src/lib.rs")).unwrap();
                commit(&playground.upstream(), "pmem-flush: Add\n");
            },
            &["pmem-flush: Add", "lacks pmem-flush/src/lib.rs"],
        ),
        (
            |playground| {
                copy_crate(playground);
                write(
                    &playground.upstream().join("pmem-flush/src/more.rs"),
                    "more\n",
                );
                commit(&playground.upstream(), "pmem-flush: Add\n");
            },
            &[
                "pmem-flush: Add",
                "pmem-flush/src/more.rs",
                "not in this project",
                "series.toml",
            ],
        ),
    ];
    for (change, named) in cases {
        let playground = Playground::new();
        change(&playground);
        names(&playground.record().unwrap_err(), named);
        assert!(!playground.series().join(BASE).exists());
    }
}

#[test]
fn a_base_that_git_does_not_know_is_refused() {
    let playground = Playground::new();
    playground.make_steps();
    let record = |name: &str, onto: Option<&str>| {
        commands::record(
            &playground.series(),
            &playground.upstream(),
            name,
            onto,
            &mut |_| Ok(()),
        )
    };
    names(&record("v9.9", None).unwrap_err(), &["v9.9", "--onto"]);
    names(&record("../x", None).unwrap_err(), &["../x", "letters"]);
    names(&record("side", Some("--help")).unwrap_err(), &["--help"]);
    record("named-otherwise", Some(BASE)).unwrap();
    let tree = playground.tree("tree");
    git(
        &playground.upstream(),
        &["checkout", "-q", "--orphan", "alone"],
    );
    commit(&playground.upstream(), "alone\n");
    names(
        &record("named-otherwise", None).unwrap_err(),
        &["not on top", "--onto"],
    );
    playground.apply(&tree).unwrap();
}

#[test]
fn messages_are_kept_to_the_byte() {
    let playground = Playground::new();
    let upstream = playground.upstream();
    for (number, message) in [
        "one",
        "two\n\n\n",
        "three: größer\n\n\tbody\n  \n",
        "four\n\nTested-by: Me\n",
    ]
    .iter()
    .enumerate()
    {
        write(&upstream.join("new.txt"), &number.to_string());
        git(&upstream, &["add", "-A"]);
        let tree = git(&upstream, &["write-tree"]);
        let object = format!(
            "tree {tree}\nparent {}\nauthor A <a@example.org> 1 +0000\ncommitter A <a@example.org> 1 +0000\n\n{message}",
            git(&upstream, &["rev-parse", "HEAD"])
        );
        fs::write(playground.path("object"), object).unwrap();
        let file = playground.path("object");
        let commit = git(
            &upstream,
            &["hash-object", "-w", "-t", "commit", file.to_str().unwrap()],
        );
        git(&upstream, &["reset", "-q", "--hard", &commit]);
    }
    playground.record().unwrap();
    let tree = playground.clone_at_base("clone");
    playground.apply_commit(&tree, false).unwrap();
    assert_eq!(history(&tree, BASE), history(&upstream, BASE));
}

#[test]
fn upstream_lines_among_the_new_ones_are_pointed_out_by_file_and_line() {
    let playground = Playground::new();
    let upstream = playground.upstream();
    let file = |name: &str| upstream.join(name);
    let theirs = "fn a_line_of_theirs() {}\nfn another_of_theirs() {}\nother\n";
    edit(&file("untouched.txt"), "leave me\n", theirs);
    commit(&upstream, "theirs\n");
    git(&upstream, &["tag", "-f", BASE]);
    edit(
        &file("untouched.txt"),
        theirs,
        "ours\nother\n    fn a_line_of_theirs() {}\n  fn another_of_theirs() {}\n",
    );
    // Most of it is new, so it is a rewrite.
    let ours = "one new line\ntwo new lines\n  some old text 7\nmore new lines\nand more\n";
    write(&file("src/rewritten.rs"), ours);
    commit(&upstream, "ours: Move\n");
    let report = playground.record().unwrap();
    let notes: Vec<_> = report
        .lines
        .iter()
        .filter(|line| line.starts_with("note: "))
        .collect();
    let also = "also stands in the pre-image (moved or re-indented?):";
    assert_eq!(
        notes,
        [
            &format!("note: 0001-ours-Move: src/rewritten.rs:3 {also} some old text 7"),
            &format!("note: 0001-ours-Move: untouched.txt:3 {also} fn a_line_of_theirs() {{}}"),
            &format!("note: 0001-ours-Move: untouched.txt:4 {also} fn another_of_theirs() {{}}"),
        ]
    );
}

fn names_line(lines: &[String], names: &[&str]) {
    assert!(
        lines
            .iter()
            .any(|line| names.iter().all(|name| line.contains(name))),
        "{lines:?} has no line with {names:?}"
    );
}

#[test]
fn two_bases_store_what_they_share_once() {
    let playground = Playground::recorded();
    playground.second_base();
    let upstream = playground.upstream();
    commands::record(&playground.series(), &upstream, "v2.0", None, &mut |_| {
        Ok(())
    })
    .unwrap();

    let stored: Vec<_> = snapshot(&playground.series().join("v2.0"))
        .into_iter()
        .filter(|(path, (_, content))| {
            content.is_some() && !path.ends_with(".toml") && !path.ends_with("message")
        })
        .collect();
    assert!(stored.is_empty(), "{stored:?}");
    let files = snapshot(&playground.series());
    assert!(
        !files.keys().any(|path| path.ends_with("lib.rs")),
        "the crate is stored twice"
    );

    // Each fits its own tree, and says so without being told.
    let tree = playground.clone_at_base("two");
    git(&tree, &["checkout", "-q", "v2.0"]);
    let report = commands::check(&playground.series(), &tree, None).unwrap();
    names_line(&report.lines, &["tree is v2.0"]);
    playground.apply_commit(&tree, false).unwrap();
    assert_eq!(history(&tree, "v2.0"), history(&upstream, "v2.0"));
    let one = playground.tree("one");
    let report = commands::check(&playground.series(), &one, None).unwrap();
    names_line(&report.lines, &["tree is v1.0"]);

    // The base that stores for both changes; the other keeps what it had.
    let expected = history(&upstream, "v2.0");
    playground.amend();
    playground.record().unwrap();
    revert(&tree).unwrap();
    playground.apply_commit(&tree, false).unwrap();
    assert_eq!(history(&tree, "v2.0"), expected);
}

#[test]
fn trees_that_fit_two_bases_need_a_name() {
    let playground = Playground::recorded();
    commands::record(
        &playground.series(),
        &playground.upstream(),
        "copy",
        Some(BASE),
        &mut |_| Ok(()),
    )
    .unwrap();
    let tree = playground.tree("tree");
    names(
        &playground.apply(&tree).unwrap_err(),
        &["copy, v1.0", "--base"],
    );
    let apply = |name| {
        let options = ApplyOptions {
            base: Some(name),
            ..ApplyOptions::default()
        };
        commands::apply(&playground.series(), &tree, options, &mut |_| Ok(()))
    };
    names(&apply("v3").unwrap_err(), &["--base v3", "copy, v1.0"]);
    apply("copy").unwrap();
}

#[test]
fn files_copied_from_the_project_may_not_drift() {
    let playground = Playground::recorded();
    let project = playground.path("project/pmem-flush");
    let tree = playground.tree("tree");
    let before = snapshot(&tree);
    type Change = fn(&Path);
    let cases: [(Change, &str); 4] = [
        (
            |project| edit(&project.join("src/lib.rs"), "engine", "motor"),
            "src/lib.rs has changed",
        ),
        (
            |project| mode(&project.join("src/lib.rs"), 0o755),
            "src/lib.rs has changed",
        ),
        (
            |project| write(&project.join("src/new.rs"), "new\n"),
            "src/new.rs is not recorded",
        ),
        (
            |project| fs::remove_file(project.join("src/new.rs")).unwrap(),
            "src/new.rs was recorded",
        ),
    ];
    for (change, named) in cases {
        change(&project);
        let report = commands::list(&playground.series()).unwrap();
        assert!(report.bad);
        names_line(&report.lines, &[named, "chpatch refresh"]);
        let error = playground.apply(&tree).unwrap_err();
        assert!(matches!(error, Error::Drift { .. }), "{error}");
        names(
            &commands::check(&playground.series(), &tree, None).unwrap_err(),
            &[named],
        );
        assert_eq!(snapshot(&tree), before);

        commands::refresh(&playground.series(), &mut |_| Ok(())).unwrap();
        assert!(!commands::list(&playground.series()).unwrap().bad);
        playground.apply(&tree).unwrap();
        for (path, file) in snapshot(&project.join("src")) {
            assert_eq!(snapshot(&tree.join("pmem-flush/src"))[&path], file);
        }
        revert(&tree).unwrap();
        assert_eq!(snapshot(&tree), before);
    }
}

#[test]
fn recording_again_changes_nothing() {
    let playground = Playground::recorded();
    let before = snapshot(&playground.series());
    playground.record().unwrap();
    assert_eq!(snapshot(&playground.series()), before);
    let series = store::load(&playground.series()).unwrap();
    store::save(&series, &playground.series(), &mut |_| Ok(())).unwrap();
    assert_eq!(snapshot(&playground.series()), before);
}
