// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Writing a series is stopped at every point at which something on disk changes,
//! by an error and by the death of the process: the series is the old one or the
//! new one, all bases of it.

mod common;

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};

use chpatch::commands::{self, ApplyOptions, Report};
use chpatch::error::Error;
use chpatch::lock::Lock;
use common::{BASE, Playground, edit, git, names, snapshot};

const SIGABRT: i32 = 6;

/// From here on the series is the new one.
const DECIDED: &str = "rename .writing";

const TOOK_BACK: &str = "an earlier record or refresh was interrupted: took it back";
const COMPLETED: &str = "an earlier record or refresh was interrupted: completed it";

/// A series of two bases, of which the next `record` changes both: the one that
/// is recorded has stored for the other what that keeps.
fn playground() -> Playground {
    let playground = Playground::recorded();
    playground.second_base();
    let upstream = playground.upstream();
    commands::record(&playground.series(), &upstream, "v2.0", None, &mut |_| {
        Ok(())
    })
    .expect("record");
    git(&upstream, &["checkout", "-q", "main"]);
    edit(
        &upstream.join("src/rewritten.rs"),
        "brand new text 1\n",
        "other new text 1\n",
    );
    git(&upstream, &["commit", "-q", "-a", "--amend", "--no-edit"]);
    playground
}

/// The series folder of a copy of the project.
fn copy(playground: &Playground, series: &Path, name: &str) -> PathBuf {
    let to = playground.path(name);
    let from = series.parent().expect("a project");
    let status = Command::new("cp").arg("-a").arg(from).arg(&to).status();
    assert!(status.expect("cp runs").success());
    to.join("series")
}

fn record(
    playground: &Playground,
    series: &Path,
    watch: &mut dyn FnMut(&str) -> Result<(), Error>,
) -> Result<Report, Error> {
    commands::record(series, &playground.upstream(), BASE, None, watch)
}

/// The points of an undisturbed run.
fn points(
    run: impl FnOnce(&mut dyn FnMut(&str) -> Result<(), Error>) -> Result<Report, Error>,
) -> Vec<String> {
    let mut points = Vec::new();
    run(&mut |point| {
        points.push(point.to_owned());
        Ok(())
    })
    .expect("an undisturbed run");
    points
}

fn decided(points: &[String]) -> usize {
    let place = |name: &str| points.iter().position(|point| point == name);
    for point in ["place v1.0", "place v2.0"] {
        assert!(place(point) > place(DECIDED), "{points:?}");
    }
    place(DECIDED).expect(DECIDED)
}

/// What the tests below start as a process of its own, to have it killed.
#[test]
#[ignore = "a part of the tests below, which start it as a process"]
fn killed_process() {
    let variable = |name: &str| env::var(name).expect("set by the test that starts this");
    let series = PathBuf::from(variable("CHPATCH_SERIES"));
    let at: usize = variable("CHPATCH_POINT").parse().expect("a number");
    let mut count = 0;
    let mut die = |_: &str| {
        count += 1;
        if count == at + 1 {
            process::abort();
        }
        Ok(())
    };
    let done = match variable("CHPATCH_COMMAND").as_str() {
        "refresh" => commands::refresh(&series, &mut die),
        _ => {
            let upstream = PathBuf::from(variable("CHPATCH_UPSTREAM"));
            commands::record(&series, &upstream, BASE, None, &mut die)
        }
    };
    done.expect("it gets as far as to be killed");
}

fn kill(playground: &Playground, series: &Path, command: &str, at: usize) {
    let status = Command::new(env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "killed_process"])
        .env("CHPATCH_SERIES", series)
        .env("CHPATCH_UPSTREAM", playground.upstream())
        .env("CHPATCH_COMMAND", command)
        .env("CHPATCH_POINT", at.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("this program runs");
    assert_eq!(
        status.signal(),
        Some(SIGABRT),
        "{command} was not killed at point {at}"
    );
}

#[test]
fn death_at_any_point_of_record_leaves_the_old_series_or_the_new_one() {
    type Next = fn(&Playground, &Path) -> Result<Report, Error>;
    let next: [(&str, Next); 4] = [
        ("list", |_, series| commands::list(series)),
        ("check", |playground, series| {
            commands::check(series, &playground.path("tree"), None)
        }),
        ("apply", |playground, series| {
            let options = ApplyOptions::default();
            let tree = playground.tree(&format!("tree-{}", series.display()).replace('/', "-"));
            commands::apply(series, &tree, options, &mut |_| Ok(()))
        }),
        ("refresh", |_, series| {
            commands::refresh(series, &mut |_| Ok(()))
        }),
    ];
    let playground = playground();
    playground.tree("tree");
    let series = playground.series();
    let before = snapshot(&series);
    let trial = copy(&playground, &series, "trial");
    let points = points(|watch| record(&playground, &trial, watch));
    let after = snapshot(&trial);
    let decided = decided(&points);
    assert!(decided >= next.len() && points.len() - 1 - decided >= next.len());
    for (at, point) in points.iter().enumerate() {
        let dead = copy(&playground, &series, &format!("dead-{at}"));
        kill(&playground, &dead, "record", at);
        let (expected, told) = match at {
            // Nothing was begun.
            0 => (&before, None),
            _ if at <= decided => (&before, Some(TOOK_BACK)),
            _ => (&after, Some(COMPLETED)),
        };
        // There are more points of either kind than commands: each comes after both.
        let (name, next) = next[at % next.len()];
        let series = copy(&playground, &dead, &format!("{name}-{at}"));
        let report = next(&playground, &series).unwrap();
        let first = report.lines.first().map(String::as_str);
        match told {
            Some(_) => assert_eq!(first, told, "{name} after death at: {point}"),
            None => assert!(first.is_some_and(|line| !line.contains("interrupted"))),
        }
        assert_eq!(
            &snapshot(&series),
            expected,
            "{name} after death at: {point}"
        );
        record(&playground, &dead, &mut |_| Ok(())).unwrap();
        assert_eq!(snapshot(&dead), after, "record after death at: {point}");
    }
}

#[test]
fn death_at_any_point_of_putting_right_is_recovered_from() {
    let playground = playground();
    let series = playground.series();
    let before = snapshot(&series);
    let trial = copy(&playground, &series, "trial");
    let recording = points(|watch| record(&playground, &trial, watch));
    let after = snapshot(&trial);
    let decided = decided(&recording);
    for (at, point) in recording.iter().enumerate().skip(decided) {
        let dead = copy(&playground, &series, &format!("dead-{at}"));
        kill(&playground, &dead, "record", at);
        let trial = copy(&playground, &dead, &format!("trial-{at}"));
        let refreshing = points(|watch| commands::refresh(&trial, watch));
        assert!(!refreshing.is_empty(), "{point}");
        for (then, next) in refreshing.iter().enumerate() {
            let again = copy(&playground, &dead, &format!("dead-{at}-{then}"));
            kill(&playground, &again, "refresh", then);
            if let Some(base) = next.strip_prefix("remove the old ") {
                // Death amid that.
                fs::remove_file(again.join(base).join("base.toml")).unwrap();
            }
            assert!(!commands::list(&again).unwrap().bad);
            let expected = if at <= decided { &before } else { &after };
            assert_eq!(&snapshot(&again), expected, "{point}, then {next}");
        }
    }
}

#[test]
fn an_error_at_any_point_of_record_leaves_the_old_series_or_the_new_one() {
    let playground = playground();
    let series = playground.series();
    let before = snapshot(&series);
    let trial = copy(&playground, &series, "trial");
    let points = points(|watch| record(&playground, &trial, watch));
    let after = snapshot(&trial);
    let decided = decided(&points);
    for (at, point) in points.iter().enumerate() {
        let series = copy(&playground, &series, &format!("error-{at}"));
        let mut count = 0;
        let error = record(&playground, &series, &mut |point| {
            count += 1;
            if count == at + 1 {
                return Err(Error::Io {
                    action: point.to_owned(),
                    source: io::Error::other("injected"),
                });
            }
            Ok(())
        })
        .unwrap_err();
        names(&error, &["injected", point]);
        if at <= decided {
            assert_eq!(snapshot(&series), before, "after an error at: {point}");
        } else {
            let report = commands::list(&series).unwrap();
            assert_eq!(report.lines[0], COMPLETED);
            assert_eq!(snapshot(&series), after, "after an error at: {point}");
        }
    }
}

#[test]
fn a_series_that_is_being_written_is_left_alone() {
    let playground = playground();
    let series = playground.series();
    let tree = playground.tree("tree");
    let lock = Lock::take(File::open(&series).unwrap(), &series).unwrap();
    for begun in [None, Some(".writing"), Some(".written")] {
        if let Some(folder) = begun {
            fs::create_dir(series.join(folder)).unwrap();
        }
        let before = snapshot(&series);
        let mut results = vec![record(&playground, &series, &mut |_| Ok(()))];
        if begun.is_some() {
            results.push(commands::list(&series));
            results.push(commands::check(&series, &tree, None));
            results.push(playground.apply(&tree));
        }
        for result in results {
            let error = result.unwrap_err();
            assert!(matches!(error, Error::Busy { .. }), "{error}");
            names(&error, &["another chpatch", series.to_str().unwrap()]);
        }
        assert_eq!(snapshot(&series), before);
        if let Some(folder) = begun {
            fs::remove_dir(series.join(folder)).unwrap();
        }
    }
    drop(lock);
    record(&playground, &series, &mut |_| Ok(())).unwrap();
}
