// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The work is stopped at every point at which something on disk changes: by an
//! error, and by the death of the process.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use chpatch::commands::{self, ApplyOptions};
use chpatch::error::Error;
use chpatch::transaction::Watch;
use common::interrupt::{self, copy, die, fail_at, injected, points, variable};
use common::{
    BASE, Playground, Snapshot, changed, edit, git, history, names, put_back, revert, snapshot,
};

fn apply_watched(series: &Path, tree: &Path, commit: bool, watch: Watch<'_>) -> Result<(), Error> {
    let options = ApplyOptions {
        base: None,
        commit,
        sign_off: false,
    };
    commands::apply(series, tree, options, watch).map(|_| ())
}

fn without_state(mut files: Snapshot) -> Snapshot {
    files.retain(|path, _| !path.starts_with(".chpatch"));
    files
}

#[test]
fn an_error_at_any_point_of_apply_leaves_the_tree_as_it_was() {
    for commit in [false, true] {
        let playground = Playground::recorded();
        let tree = playground.clone_at_base("clone");
        let before = snapshot(&tree);
        let series = playground.series();
        let trial = copy(&tree, &playground.path("trial"));
        let points = points(|watch| apply_watched(&series, &trial, commit, watch));
        assert!(points.len() > 20, "{points:?}");
        for (at, point) in points.iter().enumerate() {
            let error = apply_watched(&series, &tree, commit, &mut fail_at(at)).unwrap_err();
            names(&error, &["injected", point]);
            assert_eq!(snapshot(&tree), before, "after an error at: {point}");
            assert_eq!(
                git(&tree, &["status", "--porcelain", "--ignored"]),
                "",
                "{point}"
            );
            assert_eq!(history(&tree, BASE), [], "{point}");
        }
        apply_watched(&series, &tree, commit, &mut |_| Ok(())).unwrap();
        assert_eq!(
            without_state(snapshot(&tree)),
            without_state(snapshot(&trial))
        );
    }
}

#[test]
fn when_going_back_fails_too_the_next_run_goes_back() {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    let before = snapshot(&tree);
    let mut since = None;
    let error = apply_watched(&playground.series(), &tree, false, &mut |point| {
        since = match since {
            None if point == "place src/old.rs" => Some(0),
            None => return Ok(()),
            Some(points) => Some(points + 1),
        };
        match since {
            Some(0) => Err(injected("once")),
            // Amid going back: some files are back, some are not.
            Some(3) => Err(injected("twice")),
            _ => Ok(()),
        }
    })
    .unwrap_err();
    assert!(matches!(error, Error::HalfWay { .. }), "{error}");
    names(&error, &["once", "twice", "chpatch revert"]);
    assert_ne!(without_state(snapshot(&tree)), before);
    let report = commands::check(&playground.series(), &tree, None).unwrap();
    assert!(
        report.bad && report.lines[0].contains("interrupted"),
        "{report:?}"
    );

    let report = revert(&tree).unwrap();
    assert!(report.lines[0].contains("took it back"), "{report:?}");
    assert_eq!(snapshot(&tree), before);
}

/// What the tests below start as a process of its own, to have it killed.
#[test]
#[ignore = "a part of the tests below, which start it as a process"]
fn killed_process() {
    let tree = PathBuf::from(variable("CHPATCH_TREE"));
    let mut die = die();
    let done = match variable("CHPATCH_COMMAND").as_str() {
        "revert" => commands::revert(&tree, &mut die).map(|_| ()),
        command => {
            let series = PathBuf::from(variable("CHPATCH_SERIES"));
            apply_watched(&series, &tree, command == "commit", &mut die)
        }
    };
    done.expect("it gets as far as to be killed");
}

fn kill(playground: &Playground, tree: &Path, command: &str, at: usize) {
    let series = playground.series();
    let places = [("CHPATCH_TREE", tree), ("CHPATCH_SERIES", &series)];
    interrupt::kill(command, at, &places);
}

/// Every file is the old one or the new one, byte for byte.
fn assert_whole(now: &Snapshot, before: &Snapshot, after: &Snapshot, point: &str) {
    for (path, file) in now.iter().filter(|(path, _)| !path.starts_with(".chpatch")) {
        let known = [before.get(path), after.get(path)];
        assert!(
            known.contains(&Some(file)),
            "{path} is torn after death at: {point}"
        );
    }
}

#[test]
fn death_at_any_point_of_apply_is_recovered_from() {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    let before = snapshot(&tree);
    let series = playground.series();
    let trial = copy(&tree, &playground.path("trial"));
    let points = points(|watch| apply_watched(&series, &trial, false, watch));
    let after = without_state(snapshot(&trial));
    for (at, point) in points.iter().enumerate() {
        let dead = copy(&tree, &playground.path(&format!("dead-{at}")));
        kill(&playground, &dead, "apply", at);
        assert_whole(&snapshot(&dead), &before, &after, point);
        let other = copy(&dead, &playground.path(&format!("other-{at}")));

        let report = playground.apply(&dead).unwrap();
        let told = report.lines[0].contains("took it back");
        assert_eq!(told, dead_after_journal(&points, at), "{point}: {report:?}");
        assert_eq!(
            without_state(snapshot(&dead)),
            after,
            "apply after death at: {point}"
        );
        revert(&dead).unwrap();
        assert_eq!(snapshot(&dead), before, "revert after death at: {point}");

        match revert(&other) {
            Ok(report) => assert!(report.lines[0].contains("took it back"), "{report:?}"),
            Err(error) => assert!(
                matches!(error, Error::NotApplied { .. }),
                "{point}: {error}"
            ),
        }
        assert_eq!(snapshot(&other), before, "revert after death at: {point}");
        fs::remove_dir_all(dead).unwrap();
        fs::remove_dir_all(other).unwrap();
    }
}

fn dead_after_journal(points: &[String], at: usize) -> bool {
    at > points
        .iter()
        .position(|point| point == "write the journal")
        .expect("a journal")
}

#[test]
fn death_at_any_point_of_revert_is_recovered_from() {
    revert_survives_death(&[]);
}

#[test]
fn death_at_any_point_of_revert_is_recovered_from_though_files_were_back_before() {
    revert_survives_death(&["src/device.rs", "new/deep/tool.sh", "gone/for-good.txt"]);
}

/// Kills a revert at each point of a tree in which the files `back` are as before.
fn revert_survives_death(back: &[&str]) {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    let before = snapshot(&tree);
    playground.apply(&tree).expect("apply");
    let after = without_state(snapshot(&tree));
    for file in back {
        put_back(&tree, &before, file);
    }
    let begun_with = without_state(snapshot(&tree));
    let trial = copy(&tree, &playground.path("trial"));
    let points = points(|watch| commands::revert(&trial, watch));
    assert!(points.len() > 20, "{points:?}");
    for (at, point) in points.iter().enumerate() {
        let dead = copy(&tree, &playground.path(&format!("dead-{at}")));
        kill(&playground, &dead, "revert", at);
        assert_whole(&snapshot(&dead), &before, &begun_with, point);
        let other = copy(&dead, &playground.path(&format!("other-{at}")));

        match revert(&dead) {
            Ok(_) => {}
            Err(Error::NotApplied { .. }) if point == "clear the state folder" => {}
            Err(error) => panic!("{point}: {error}"),
        }
        assert_eq!(snapshot(&dead), before, "revert after death at: {point}");

        let expected = if at == 0 {
            // Nothing was begun: the series is in.
            playground.apply(&other).expect_err("the series is in");
            &begun_with
        } else {
            playground.apply(&other).expect("apply again");
            &after
        };
        assert_eq!(
            &without_state(snapshot(&other)),
            expected,
            "apply after death at: {point}"
        );
        fs::remove_dir_all(dead).expect("remove a tree");
        fs::remove_dir_all(other).expect("remove a tree");
    }
}

#[test]
fn death_at_any_point_of_forgetting_a_series_is_recovered_from() {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    let before = snapshot(&tree);
    playground.apply(&tree).unwrap();
    for file in changed(&tree, &before) {
        put_back(&tree, &before, &file);
    }
    let trial = copy(&tree, &playground.path("trial"));
    let points = points(|watch| commands::revert(&trial, watch));
    assert_eq!(snapshot(&trial), before);
    for (at, point) in points.iter().enumerate() {
        let dead = copy(&tree, &playground.path(&format!("dead-{at}")));
        kill(&playground, &dead, "revert", at);
        match revert(&dead) {
            Ok(_) => {}
            Err(Error::NotApplied { .. }) if point == "clear the state folder" => {}
            Err(error) => panic!("{point}: {error}"),
        }
        assert_eq!(snapshot(&dead), before, "{point}");
    }
}

#[test]
fn death_around_the_commits_leaves_branch_and_index_recoverable() {
    let playground = Playground::recorded();
    let tree = playground.clone_at_base("clone");
    let series = playground.series();
    let before = snapshot(&tree);
    let trial = copy(&tree, &playground.path("trial"));
    let applying = points(|watch| apply_watched(&series, &trial, true, watch));
    let done = history(&trial, BASE);
    assert_eq!(done.len(), 3);
    let applied = copy(&trial, &playground.path("applied"));
    let reverting = points(|watch| commands::revert(&trial, watch));
    let near = [
        "make the commits",
        "write the journal",
        "move the branch",
        "complete the journal",
    ];
    let back = [
        "begin to revert",
        "move the branch back",
        "remove the journal",
        "clear the state folder",
    ];
    for (command, points, near, from) in [
        ("commit", &applying, near, &tree),
        ("revert", &reverting, back, &applied),
    ] {
        for point in near {
            let at = points.iter().position(|name| name == point).expect(point);
            let dead = copy(from, &playground.path("dead"));
            kill(&playground, &dead, command, at);
            // Whatever it was, out it comes.
            match revert(&dead) {
                Ok(_) | Err(Error::NotApplied { .. }) => {}
                Err(error) => panic!("{point}: {error}"),
            }
            assert_eq!(snapshot(&dead), before, "{point}");
            assert_eq!(history(&dead, BASE), [], "{point}");
            assert_eq!(
                git(&dead, &["status", "--porcelain", "--ignored"]),
                "",
                "{point}"
            );
            playground.apply_commit(&dead, false).unwrap();
            assert_eq!(history(&dead, BASE), done, "{point}");
            assert_eq!(git(&dead, &["status", "--porcelain"]), "", "{point}");
            fs::remove_dir_all(dead).unwrap();
        }
    }
}

#[test]
fn a_file_edited_after_the_death_is_not_overwritten() {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    let series = playground.series();
    let trial = copy(&tree, &playground.path("trial"));
    let points = points(|watch| apply_watched(&series, &trial, false, watch));
    kill(&playground, &tree, "apply", points.len() - 1);
    edit(&tree.join("src/device.rs"), "line 30\n", "mine 30\n");
    let edited = snapshot(&tree);
    for error in [
        playground.apply(&tree).unwrap_err(),
        revert(&tree).unwrap_err(),
    ] {
        names(&error, &["src/device.rs", "nothing was touched"]);
    }
    assert_eq!(snapshot(&tree), edited);
}

#[test]
fn a_damaged_journal_is_named_and_nothing_is_touched() {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    playground.apply(&tree).unwrap();
    let journal = fs::read_to_string(tree.join(".chpatch/journal.json")).unwrap();
    for (old, new) in [
        ("\"path\": \"src/device.rs\"", "\"path\": \"../outside\""),
        ("\"format\": 1", "\"format\": 2"),
        ("\"entries\"", "\"others\""),
    ] {
        assert!(journal.contains(old));
        fs::write(
            tree.join(".chpatch/journal.json"),
            journal.replace(old, new),
        )
        .unwrap();
        let before = snapshot(&tree);
        names(&revert(&tree).unwrap_err(), &[".chpatch/journal.json"]);
        assert_eq!(snapshot(&tree), before);
    }
}

#[test]
fn a_kept_file_that_was_damaged_is_not_put_back() {
    let playground = Playground::recorded();
    let tree = playground.tree("tree");
    playground.apply(&tree).unwrap();
    let kept = fs::read_dir(tree.join(".chpatch")).unwrap();
    for entry in kept {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("before-") {
            fs::write(entry.path(), "damaged\n").unwrap();
        }
    }
    let applied = snapshot(&tree);
    names(&revert(&tree).unwrap_err(), &[".chpatch/before-"]);
    assert_eq!(snapshot(&tree), applied);
}
