// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A made-up upstream, a made-up project, and trees to try them on.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod interrupt;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use chpatch::commands::{self, ApplyOptions, Report};
use chpatch::error::Error;
use tempfile::TempDir;

/// Name of the made-up base.
pub const BASE: &str = "v1.0";

/// A file or folder below a folder: permission bits and content; folders and
/// links have none.
pub type Snapshot = BTreeMap<String, (u32, Option<Vec<u8>>)>;

/// A scratch folder with a project (`project/series`, `project/pmem-flush`) and
/// an upstream repository with three commits on top of a base.
pub struct Playground {
    dir: TempDir,
}

impl Playground {
    /// An upstream, its series recorded.
    pub fn recorded() -> Self {
        let playground = Self::new();
        playground.make_steps();
        playground.record().expect("record");
        playground
    }

    /// An upstream at its base.
    pub fn new() -> Self {
        let playground = Self {
            dir: TempDir::new().expect("a scratch folder"),
        };
        let project = playground.path("project");
        write(
            &project.join("pmem-flush/Cargo.toml"),
            "name = \"pmem-flush\"\n",
        );
        write(&project.join("pmem-flush/src/lib.rs"), "//! The engine.\n");
        write(&project.join("pmem-flush/README.md"), "stays behind\n");
        write(&project.join("pmem-flush/fuzz/target.rs"), "stays behind\n");
        write(
            &project.join("series/series.toml"),
            "format = 1\n\n[[copied]]\nfrom = \"pmem-flush\"\nto = \"pmem-flush\"\n\
             exclude = [\"README.md\", \"fuzz\"]\n",
        );
        let upstream = playground.upstream();
        write_base(&upstream);
        init(&upstream);
        commit(&upstream, "base\n");
        git(&upstream, &["tag", BASE]);
        playground
    }

    /// Three commits: one that copies the crate, one of edits in files with every
    /// kind of line end, and one that edits on, rewrites, renames and deletes.
    pub fn make_steps(&self) {
        let upstream = self.upstream();
        copy_crate(self);
        edit(
            &upstream.join("Cargo.toml"),
            "  \"b\",\n",
            "  \"b\",\n  \"pmem-flush\",\n",
        );
        commit(
            &upstream,
            "pmem-flush: Add the engine\n\nWhy before what.\n",
        );

        edit(
            &upstream.join("src/device.rs"),
            "line 10\n",
            "ours 10\nours 10b\n",
        );
        edit(&upstream.join("src/device.rs"), "line 20\n", "");
        edit(&upstream.join("crlf.txt"), "two\r\n", "zwei\r\n");
        edit(&upstream.join("no-newline.txt"), "last", "very last");
        edit(
            &upstream.join("docs/grüße – 世界.md"),
            "hello\n",
            "hello\nours\n",
        );
        mode(&upstream.join("src/old.rs"), 0o755);
        commit(&upstream, "device: Edit\n\nWith a body.\n");

        edit(&upstream.join("src/device.rs"), "ours 10b\n", "ours 10c\n");
        write(
            &upstream.join("src/rewritten.rs"),
            &numbered("brand new text", 40),
        );
        mode(&upstream.join("src/rewritten.rs"), 0o644);
        git(&upstream, &["mv", "src/moved.rs", "src/moved_away.rs"]);
        edit(&upstream.join("src/moved_away.rs"), "moved 3\n", "ours 3\n");
        git(&upstream, &["rm", "-q", "gone/for-good.txt"]);
        write(&upstream.join("new/deep/tool.sh"), "#!/bin/sh\nexit 0");
        mode(&upstream.join("new/deep/tool.sh"), 0o755);
        commit(&upstream, "device: Rewrite\n\nAnd:\n- rename\n- delete\n");
    }

    /// A second base, in which everything is three lines further down.
    pub fn second_base(&self) {
        let upstream = self.upstream();
        git(&upstream, &["checkout", "-q", "-b", "second", BASE]);
        edit(
            &upstream.join("src/device.rs"),
            "line 1\n",
            "new 1\nnew 2\nnew 3\nline 1\n",
        );
        commit(&upstream, "base moves on\n");
        git(&upstream, &["tag", "v2.0"]);
        git(&upstream, &["cherry-pick", "-x", "v1.0..main"]);
        git(
            &upstream,
            &[
                "commit",
                "-q",
                "--amend",
                "-m",
                "device: Rewrite\n\nAnd:\n- rename\n- delete",
            ],
        );
    }

    /// The last commit of `main` is another one: its base stores anew what a second
    /// one shares with it.
    pub fn amend(&self) {
        let upstream = self.upstream();
        git(&upstream, &["checkout", "-q", "main"]);
        edit(
            &upstream.join("src/rewritten.rs"),
            "brand new text 1\n",
            "other new text 1\n",
        );
        git(&upstream, &["commit", "-q", "-a", "--amend", "--no-edit"]);
    }

    /// A path in the scratch folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The upstream repository.
    pub fn upstream(&self) -> PathBuf {
        self.path("upstream")
    }

    /// The series folder.
    pub fn series(&self) -> PathBuf {
        self.path("project/series")
    }

    /// A copy of the base without a repository.
    pub fn tree(&self, name: &str) -> PathBuf {
        let tree = self.path(name);
        write_base(&tree);
        tree
    }

    /// A clone of the upstream repository at the base.
    pub fn clone_at_base(&self, name: &str) -> PathBuf {
        let tree = self.path(name);
        let upstream = self.upstream();
        let upstream = upstream.to_str().expect("UTF-8");
        let place = tree.to_str().expect("UTF-8");
        git(self.dir.path(), &["clone", "-q", upstream, place]);
        identity(&tree);
        git(&tree, &["checkout", "-q", "-B", "ours", BASE]);
        tree
    }

    /// `chpatch record` of the upstream repository.
    pub fn record(&self) -> Result<Report, Error> {
        commands::record(
            &self.series(),
            &self.upstream(),
            BASE,
            None,
            &mut |_| Ok(()),
        )
    }

    /// `chpatch apply`.
    pub fn apply(&self, tree: &Path) -> Result<Report, Error> {
        commands::apply(&self.series(), tree, ApplyOptions::default(), &mut |_| {
            Ok(())
        })
    }

    /// `chpatch apply --commit`.
    pub fn apply_commit(&self, tree: &Path, sign_off: bool) -> Result<Report, Error> {
        let options = ApplyOptions {
            base: None,
            commit: true,
            sign_off,
        };
        commands::apply(&self.series(), tree, options, &mut |_| Ok(()))
    }

    /// What the three commits make of the base.
    pub fn result(&self) -> Snapshot {
        let mut files = snapshot(&self.upstream());
        // Git leaves no empty folder behind; apply leaves the user's folders be.
        files.insert("gone".to_owned(), (0o755, None));
        files
    }
}

/// `chpatch revert`.
pub fn revert(tree: &Path) -> Result<Report, Error> {
    commands::revert(tree, &mut |_| Ok(()))
}

/// Copies the crate of the project into the upstream tree.
pub fn copy_crate(playground: &Playground) {
    for file in ["Cargo.toml", "src/lib.rs"] {
        let from = playground.path("project/pmem-flush").join(file);
        let text = fs::read_to_string(from).expect("a file of the crate");
        write(&playground.upstream().join("pmem-flush").join(file), &text);
    }
}

fn write_base(tree: &Path) {
    for (file, content, bits) in [
        (
            "Cargo.toml",
            "[workspace]\nmembers = [\n  \"a\",\n  \"b\",\n]\n".to_owned(),
            0o644,
        ),
        ("src/device.rs", numbered("line", 40), 0o644),
        ("src/old.rs", numbered("old", 12), 0o644),
        ("src/rewritten.rs", numbered("some old text", 30), 0o755),
        ("src/moved.rs", numbered("moved", 20), 0o644),
        ("gone/for-good.txt", "bye\n".to_owned(), 0o644),
        ("docs/grüße – 世界.md", "hello\nworld\n".to_owned(), 0o644),
        ("crlf.txt", "one\r\ntwo\r\nthree\r\n".to_owned(), 0o644),
        ("no-newline.txt", "first\nlast".to_owned(), 0o644),
        ("untouched.txt", "leave me\n".to_owned(), 0o644),
    ] {
        write(&tree.join(file), &content);
        mode(&tree.join(file), bits);
    }
}

fn numbered(text: &str, lines: usize) -> String {
    (1..=lines).map(|line| format!("{text} {line}\n")).collect()
}

/// Writes a file and the folders above it.
pub fn write(file: &Path, content: &str) {
    fs::create_dir_all(file.parent().expect("a folder")).expect("create folders");
    fs::write(file, content).expect("write a file");
}

/// Replaces text that is in the file.
pub fn edit(file: &Path, old: &str, new: &str) {
    let text = fs::read_to_string(file).expect("read a file");
    assert!(text.contains(old), "{} has no {old:?}", file.display());
    fs::write(file, text.replacen(old, new, 1)).expect("write a file");
}

/// Sets permission bits.
pub fn mode(file: &Path, bits: u32) {
    fs::set_permissions(file, fs::Permissions::from_mode(bits)).expect("chmod");
}

/// Everything below a folder but `.git`.
pub fn snapshot(top: &Path) -> Snapshot {
    let mut found = Snapshot::new();
    collect(top, "", &mut found);
    found
}

fn collect(top: &Path, below: &str, found: &mut Snapshot) {
    for entry in fs::read_dir(top.join(below)).expect("read a folder") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("UTF-8");
        if name == ".git" {
            continue;
        }
        let path = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        let metadata = entry.metadata().expect("metadata");
        let content = metadata
            .is_file()
            .then(|| fs::read(entry.path()).expect("content"));
        found.insert(
            path.clone(),
            (metadata.permissions().mode() & 0o7777, content),
        );
        if metadata.is_dir() {
            collect(top, &path, found);
        }
    }
}

/// Makes `file` what it was before: content and mode, or nothing.
pub fn put_back(tree: &Path, before: &Snapshot, file: &str) {
    match before.get(file) {
        Some((bits, Some(content))) => {
            fs::write(tree.join(file), content).expect("write a file");
            mode(&tree.join(file), *bits);
        }
        Some((_, None)) => {}
        None => fs::remove_file(tree.join(file)).expect("remove a file"),
    }
}

/// Every file that the series changes.
pub fn changed(tree: &Path, before: &Snapshot) -> Vec<String> {
    let mut after = snapshot(tree);
    after.retain(|path, (_, content)| content.is_some() && !path.starts_with(".chpatch"));
    let gone = before
        .iter()
        .filter(|(path, (_, content))| content.is_some() && !after.contains_key(*path));
    let other = after
        .iter()
        .filter(|(path, file)| before.get(*path) != Some(file));
    gone.map(|(path, _)| path)
        .chain(other.map(|(path, _)| path))
        .cloned()
        .collect()
}

/// Runs git and returns its output.
pub fn git(top: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args([
            "-c",
            "commit.gpgsign=false",
            "-c",
            "core.hooksPath=/dev/null",
        ])
        .args(["-c", "core.autocrlf=false", "-c", "init.defaultBranch=main"])
        .args(["-c", "advice.detachedHead=false"])
        .args(args)
        .current_dir(top)
        .output()
        .expect("git runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {error}");
    String::from_utf8(output.stdout)
        .expect("UTF-8")
        .trim_end()
        .to_owned()
}

/// Makes a folder a repository with a user.
pub fn init(top: &Path) {
    git(top, &["init", "-q"]);
    identity(top);
}

fn identity(top: &Path) {
    git(top, &["config", "user.name", "A. Tester"]);
    git(top, &["config", "user.email", "tester@example.org"]);
    git(top, &["config", "core.autocrlf", "false"]);
}

/// Commits all there is, with exactly this message.
pub fn commit(top: &Path, message: &str) {
    git(top, &["add", "-A"]);
    git(top, &["commit", "-q", "--cleanup=verbatim", "-m", message]);
}

/// Each commit's tree and message on top of the base, oldest first.
pub fn history(top: &Path, base: &str) -> Vec<(String, String)> {
    let range = format!("{base}..HEAD");
    let commits = git(top, &["rev-list", "--reverse", &range]);
    let tree = |commit: &str| git(top, &["rev-parse", &format!("{commit}^{{tree}}")]);
    let object = |commit: &str| {
        let object = git(top, &["cat-file", "commit", commit]);
        object.split_once("\n\n").expect("a message").1.to_owned()
    };
    commits
        .lines()
        .map(|commit| (tree(commit), object(commit)))
        .collect()
}

/// The error's text, which must name each of `names`.
pub fn names(error: &Error, names: &[&str]) -> String {
    let text = error.to_string();
    for name in names {
        assert!(text.contains(name), "{text:?} does not name {name:?}");
    }
    text
}
