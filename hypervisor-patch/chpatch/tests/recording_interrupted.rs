// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Writing a series is stopped at every point at which something on disk changes,
//! by an error and by the death of the process: the series is the old one or the
//! new one, all bases of it.

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use chpatch::commands::{self, ApplyOptions, Report};
use chpatch::error::Error;
use chpatch::lock::Lock;
use chpatch::transaction::Watch;
use common::interrupt::{self, copy, die, fail_at, points, variable};
use common::{BASE, Playground, Snapshot, names, snapshot};

/// From here on the series is the new one.
const DECIDED: &str = "rename .writing";

const TOOK_BACK: &str = "an earlier record or refresh was interrupted: took it back";
const COMPLETED: &str = "an earlier record or refresh was interrupted: completed it";

/// A series of two bases, of which the next `record` changes both: the one that
/// is recorded has stored for the other what that keeps.
fn playground() -> Playground {
    let playground = Playground::recorded();
    playground.second_base();
    commands::record(
        &playground.series(),
        &playground.upstream(),
        "v2.0",
        None,
        &mut |_| Ok(()),
    )
    .expect("record");
    playground.amend();
    playground
}

fn record(playground: &Playground, series: &Path, watch: Watch<'_>) -> Result<Report, Error> {
    commands::record(series, &playground.upstream(), BASE, None, watch)
}

/// What an undisturbed `record` does to a series.
struct Recording {
    playground: Playground,
    series: PathBuf,
    before: Snapshot,
    after: Snapshot,
    points: Vec<String>,
    /// The last of the points at which the series is the old one.
    decided: usize,
}

impl Recording {
    fn new() -> Self {
        let playground = playground();
        let series = playground.series();
        let trial = copied(&playground, &series, "trial");
        let points = points(|watch| record(&playground, &trial, watch));
        let place = |name: &str| points.iter().position(|point| point == name);
        for point in ["place v1.0", "place v2.0"] {
            assert!(place(point) > place(DECIDED), "{points:?}");
        }
        Self {
            before: snapshot(&series),
            after: snapshot(&trial),
            decided: place(DECIDED).expect(DECIDED),
            points,
            series,
            playground,
        }
    }

    /// The series folder of a copy of the project of `series`.
    fn copy(&self, series: &Path, name: &str) -> PathBuf {
        copied(&self.playground, series, name)
    }

    /// A series of which a `record` has died at point number `at`.
    fn dead(&self, at: usize) -> PathBuf {
        let dead = self.copy(&self.series, &format!("dead-{at}"));
        self.kill(&dead, "record", at);
        dead
    }

    fn kill(&self, series: &Path, command: &str, at: usize) {
        let upstream = self.playground.upstream();
        let places = [("CHPATCH_SERIES", series), ("CHPATCH_UPSTREAM", &upstream)];
        interrupt::kill(command, at, &places);
    }

    /// The series once what was left at point number `at` is put right.
    fn settled(&self, at: usize) -> &Snapshot {
        if at <= self.decided {
            &self.before
        } else {
            &self.after
        }
    }
}

fn copied(playground: &Playground, series: &Path, name: &str) -> PathBuf {
    let project = series.parent().expect("a project");
    copy(project, &playground.path(name)).join("series")
}

/// What the tests below start as a process of its own, to have it killed.
#[test]
#[ignore = "a part of the tests below, which start it as a process"]
fn killed_process() {
    let series = PathBuf::from(variable("CHPATCH_SERIES"));
    let mut die = die();
    let done = match variable("CHPATCH_COMMAND").as_str() {
        "refresh" => commands::refresh(&series, &mut die),
        _ => {
            let upstream = PathBuf::from(variable("CHPATCH_UPSTREAM"));
            commands::record(&series, &upstream, BASE, None, &mut die)
        }
    };
    done.expect("it gets as far as to be killed");
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
    let recording = Recording::new();
    let playground = &recording.playground;
    playground.tree("tree");
    let (points, decided) = (&recording.points, recording.decided);
    assert!(decided >= next.len() && points.len() - 1 - decided >= next.len());
    for (at, point) in points.iter().enumerate() {
        let dead = recording.dead(at);
        let told = match at {
            // Nothing was begun.
            0 => None,
            _ if at <= decided => Some(TOOK_BACK),
            _ => Some(COMPLETED),
        };
        // There are more points of either kind than commands: each comes after both.
        let (name, next) = next[at % next.len()];
        let series = recording.copy(&dead, &format!("{name}-{at}"));
        let report = next(playground, &series).unwrap();
        let first = report.lines.first().map(String::as_str);
        match told {
            Some(_) => assert_eq!(first, told, "{name} after death at: {point}"),
            None => assert!(first.is_some_and(|line| !line.contains("interrupted"))),
        }
        assert_eq!(
            &snapshot(&series),
            recording.settled(at),
            "{name} after death at: {point}"
        );
        record(playground, &dead, &mut |_| Ok(())).unwrap();
        assert_eq!(
            snapshot(&dead),
            recording.after,
            "record after death at: {point}"
        );
    }
}

#[test]
fn death_at_any_point_of_putting_right_is_recovered_from() {
    let recording = Recording::new();
    let undisturbed = recording.points.iter().enumerate();
    for (at, point) in undisturbed.skip(recording.decided) {
        let dead = recording.dead(at);
        let trial = recording.copy(&dead, &format!("trial-{at}"));
        let refreshing = points(|watch| commands::refresh(&trial, watch));
        assert!(!refreshing.is_empty(), "{point}");
        for (then, next) in refreshing.iter().enumerate() {
            let again = recording.copy(&dead, &format!("dead-{at}-{then}"));
            recording.kill(&again, "refresh", then);
            if let Some(base) = next.strip_prefix("remove the old ") {
                // Death amid that.
                fs::remove_file(again.join(base).join("base.toml")).unwrap();
            }
            assert!(!commands::list(&again).unwrap().bad);
            assert_eq!(
                &snapshot(&again),
                recording.settled(at),
                "{point}, then {next}"
            );
        }
    }
}

#[test]
fn an_error_at_any_point_of_record_leaves_the_old_series_or_the_new_one() {
    let recording = Recording::new();
    for (at, point) in recording.points.iter().enumerate() {
        let series = recording.copy(&recording.series, &format!("error-{at}"));
        let error = record(&recording.playground, &series, &mut fail_at(at)).unwrap_err();
        names(&error, &["injected", point]);
        if at > recording.decided {
            let report = commands::list(&series).unwrap();
            assert_eq!(report.lines[0], COMPLETED);
        }
        assert_eq!(
            &snapshot(&series),
            recording.settled(at),
            "after an error at: {point}"
        );
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
