// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The series quotes nothing: its format has no place for a line that was there
//! before, and what is not of the format is refused.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chpatch::commands;
use chpatch::manifest::{self, BaseFile, SeriesFile, StepFile};
use chpatch::store;
use common::{BASE, Playground, edit, names, snapshot, write};

fn project_series() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../series")
}

#[test]
fn the_series_of_this_project_follows_the_format() {
    let report = commands::list(&project_series()).unwrap();
    assert!(!report.bad, "{report:?}");
    // Written again it is the same: nothing is in it that the reader passes over.
    let series = store::load(&project_series()).unwrap();
    for (base, files) in store::render(&series).unwrap() {
        for (file, content) in files {
            let place = project_series().join(&base).join(&file);
            assert_eq!(fs::read(&place).unwrap(), content, "{}", place.display());
        }
    }
}

/// Every field of every table, as the writer writes them.
fn fields(table: &impl serde::Serialize) -> Vec<String> {
    fn walk(value: &serde_json::Value, name: &str, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (field, value) in fields {
                    walk(value, &format!("{name}.{field}"), found);
                }
            }
            serde_json::Value::Array(values) => {
                for value in values {
                    walk(value, name, found);
                }
            }
            _ => found.push(name.to_owned()),
        }
    }
    let mut found = Vec::new();
    walk(&serde_json::to_value(table).expect("JSON"), "", &mut found);
    found.sort();
    found.dedup();
    found
}

#[test]
fn an_edit_has_a_blob_ranges_and_new_lines_and_nothing_else() {
    let id = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
    let text = format!(
        "[[add]]\npath = \"a\"\nmode = \"100644\"\nblob = \"{id}\"\nsame_as = \"b/1\"\ncopied = \"c\"\n\
         [[rewrite]]\npath = \"a\"\nblob = \"{id}\"\nresult = \"{id}\"\nmode = \"100755\"\nsame_as = \"b/1\"\n\
         [[edit]]\npath = \"a\"\nfrom = \"b\"\nblob = \"{id}\"\nat = [\"1\"]\nresult = \"{id}\"\nmode = \"100644\"\n\
         same_as = \"b/1\"\n\
         [[delete]]\npath = \"a\"\nblob = \"{id}\"\n"
    );
    let step: StepFile = manifest::parse(text.as_bytes()).unwrap();
    assert_eq!(
        fields(&step),
        [
            ".add.blob",
            ".add.copied",
            ".add.mode",
            ".add.path",
            ".add.same_as",
            ".delete.blob",
            ".delete.path",
            ".edit.at",
            ".edit.blob",
            ".edit.from",
            ".edit.mode",
            ".edit.path",
            ".edit.result",
            ".edit.same_as",
            ".rewrite.blob",
            ".rewrite.mode",
            ".rewrite.path",
            ".rewrite.result",
            ".rewrite.same_as",
        ]
    );
    for table in ["add", "rewrite", "edit", "delete"] {
        let more = text.replacen(
            &format!("[[{table}]]\n"),
            &format!("[[{table}]]\nold = \"x\"\n"),
            1,
        );
        let error = manifest::parse::<StepFile>(more.as_bytes()).unwrap_err();
        assert!(error.contains("unknown field `old`"), "{error}");
    }
    for more in ["old = \"x\"\n", "[old]\n", "[[context]]\nx = 1\n"] {
        manifest::parse::<StepFile>(format!("{more}{text}").as_bytes()).unwrap_err();
    }
    // Values that name things by id or number have no room for text either.
    for (field, text_instead) in [
        (format!("blob = \"{id}\""), "blob = \"fn theirs() {}\""),
        ("at = [\"1\"]".to_owned(), "at = [\"fn theirs() {}\"]"),
    ] {
        manifest::parse::<StepFile>(text.replace(&field, text_instead).as_bytes()).unwrap_err();
    }
    let base = format!("format = 1\nname = \"b\"\ncommit = \"{id}\"\nsteps = []\n");
    manifest::parse::<BaseFile>(base.as_bytes()).unwrap();
    manifest::parse::<BaseFile>(format!("{base}old = \"x\"\n").as_bytes()).unwrap_err();
    manifest::parse::<SeriesFile>(b"format = 1\nold = \"x\"\n").unwrap_err();
}

#[test]
fn a_recorded_series_holds_no_line_of_the_base() {
    let playground = Playground::recorded();
    let stored = snapshot(&playground.series());
    let text: Vec<_> = stored
        .values()
        .filter_map(|(_, content)| content.as_deref())
        .collect();
    let text = String::from_utf8_lossy(&text.concat()).into_owned();
    for theirs in [
        "line 9",
        "line 10",
        "line 11",
        "line 20",
        "some old text",
        "moved 2",
        "moved 3",
        "two",
        "three",
        "bye",
        "hello",
        "world",
    ] {
        let quoted = text
            .lines()
            .any(|line| line.trim_start_matches(['+', '-', ' ']) == theirs);
        assert!(!quoted, "{theirs:?} is in the series");
    }
    assert!(
        text.contains("+ours 10\n+ours 10b\n"),
        "new lines can be read as they are"
    );
    assert!(text.contains("brand new text 7\n"));
}

#[test]
fn what_does_not_belong_to_a_series_is_refused() {
    type Change = fn(&Path);
    let cases: [(Change, &[&str]); 12] = [
        (
            |series| write(&series.join("notes.txt"), ""),
            &["notes.txt", "remove it"],
        ),
        (
            |series| write(&series.join("v1.0/old.rs"), ""),
            &["v1.0/old.rs", "remove it"],
        ),
        (
            |series| write(&step(series, 2).join("files/src/theirs.rs"), ""),
            &["src/theirs.rs", "remove it"],
        ),
        (
            |series| write(&step(series, 2).join("lines/src/device.rs.orig"), ""),
            &["device.rs.orig"],
        ),
        (
            |series| write(&series.join("v1.0/0009-more/message"), ""),
            &["0009-more"],
        ),
        (
            |series| {
                edit(
                    &step(series, 2).join("lines/src/device.rs"),
                    "+ours 10\n",
                    "-line 10\n+ours 10\n",
                );
            },
            &["lines/src/device.rs", "line 2"],
        ),
        (
            |series| {
                edit(
                    &step(series, 3).join("files/src/rewritten.rs"),
                    "text 1\n",
                    "text one\n",
                );
            },
            &["files/src/rewritten.rs", "chpatch record"],
        ),
        (
            |series| {
                edit(
                    &step(series, 3).join("step.toml"),
                    "path = \"src/device.rs\"",
                    "path = \"../device.rs\"",
                );
            },
            &["step.toml", "../device.rs"],
        ),
        (
            |series| {
                edit(
                    &step(series, 2).join("step.toml"),
                    "\"20\",",
                    "\"20\", \"30\",",
                );
            },
            &["src/device.rs", "3 ranges, but new lines for 2"],
        ),
        (
            |series| edit(&series.join("v1.0/base.toml"), "format = 1", "format = 2"),
            &["v1.0/base.toml", "format 2"],
        ),
        (
            |series| {
                edit(
                    &series.join("v1.0/base.toml"),
                    "name = \"v1.0\"",
                    "name = \"v1.1\"",
                );
            },
            &["v1.0/base.toml", "v1.1"],
        ),
        (
            |series| fs::write(step(series, 1).join("message"), "").unwrap(),
            &["0001-", "message is empty"],
        ),
    ];
    for (change, named) in cases {
        let playground = Playground::recorded();
        change(&playground.series());
        names(&commands::list(&playground.series()).unwrap_err(), named);
        let tree = playground.tree("tree");
        let before = snapshot(&tree);
        names(&playground.apply(&tree).unwrap_err(), named);
        assert_eq!(snapshot(&tree), before);
    }
}

fn step(series: &Path, number: usize) -> PathBuf {
    let start = format!("{number:04}-");
    let mut steps = fs::read_dir(series.join(BASE)).expect("steps");
    steps
        .find_map(|entry| {
            let entry = entry.expect("an entry");
            let found = entry.file_name().to_string_lossy().starts_with(&start);
            found.then(|| entry.path())
        })
        .expect("the step")
}

#[test]
fn a_wrong_range_gives_no_wrong_file() {
    let playground = Playground::recorded();
    edit(
        &step(&playground.series(), 2).join("step.toml"),
        "\"20\"",
        "\"21\"",
    );
    let tree = playground.tree("tree");
    let before = snapshot(&tree);
    names(
        &playground.apply(&tree).unwrap_err(),
        &["0002-", "src/device.rs", "recorded was"],
    );
    assert_eq!(snapshot(&tree), before);
}

fn chpatch(args: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_chpatch"))
        .args(args)
        .output()
        .expect("it runs");
    (
        output.status.success(),
        String::from_utf8(output.stdout).expect("UTF-8"),
        String::from_utf8(output.stderr).expect("UTF-8"),
    )
}

#[test]
fn the_commands_tell_and_exit_as_they_should() {
    let playground = Playground::new();
    let series = playground.series();
    let series = series.to_str().unwrap();
    let (good, told, _) = chpatch(&["list", "--series", series]);
    assert!(good && told.contains("no series in"), "{told}");

    playground.make_steps();
    let upstream = playground.upstream();
    let upstream = upstream.to_str().unwrap();
    let (good, told, error) = chpatch(&[
        "record", "--tree", upstream, "--base", BASE, "--series", series,
    ]);
    assert!(
        good && told.contains("recorded 3 steps on v1.0"),
        "{told}{error}"
    );
    let (good, told, _) = chpatch(&["list", "--series", series]);
    assert!(good);
    for line in [
        "v1.0 (upstream ",
        "  0002-device-Edit  device: Edit",
        "    add pmem-flush/src/lib.rs: a copy of pmem-flush/src/lib.rs",
        "    edit src/device.rs: 2 ranges, 2 lines in place of 2",
        "    edit src/moved_away.rs, from src/moved.rs: 1 range, 1 line in place of 1",
        "    rewrite src/rewritten.rs: 40 lines, mode 100644",
        "    delete gone/for-good.txt",
    ] {
        assert!(told.contains(line), "{line:?} is not in:\n{told}");
    }

    let tree = playground.tree("tree");
    let tree = tree.to_str().unwrap();
    let args = |command| [command, "--tree", tree, "--series", series];
    assert!(chpatch(&args("check")).0);
    assert!(chpatch(&args("apply")).0);
    let (good, told, error) = chpatch(&args("apply"));
    assert!(!good && told.is_empty());
    assert!(
        error.starts_with("chpatch: series is applied already"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1);
    assert!(chpatch(&["revert", "--tree", tree]).0);
    let (good, _, error) = chpatch(&["apply", "--tree", tree, "--signoff"]);
    assert!(!good && error.contains("--commit"), "{error}");
    let (good, _, error) = chpatch(&["check", "--tree", "/nonexistent/tree", "--series", series]);
    assert!(
        !good && error.contains("--tree /nonexistent/tree"),
        "{error}"
    );
}
