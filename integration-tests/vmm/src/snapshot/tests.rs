// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A snapshot comes back as it was, or is refused with the reason.

use std::env;
use std::fs::{File, OpenOptions, metadata, read_dir, read_to_string, remove_file, write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use serde_json::{Value, from_str, json, to_string};
use tempfile::{TempDir, tempdir, tempfile};

use super::*;
use crate::config::{
    ConsoleConfig, CpusConfig, MemoryConfig, PayloadConfig, SerialConfig, VmConfig,
};
use crate::error::one_line;
use crate::machine::Ram;

const MIB: u64 = 1 << 20;

fn config() -> VmConfig {
    VmConfig {
        cpus: CpusConfig::default(),
        memory: MemoryConfig { size: 16 * MIB },
        payload: PayloadConfig {
            kernel: "/k".into(),
            cmdline: None,
            initramfs: None,
        },
        pmem: Vec::new(),
        serial: SerialConfig::default(),
        console: ConsoleConfig::default(),
    }
}

/// 16 MiB in two regions, all zeros.
fn empty_ram() -> Ram {
    let file = tempfile().unwrap();
    file.set_len(16 * MIB).unwrap();
    let region = |guest_base, offset, size| RamRegion {
        guest_base,
        size,
        offset,
    };
    Ram {
        file,
        regions: vec![region(0, 0, 10 * MIB), region(4 << 30, 10 * MIB, 6 * MIB)],
    }
}

/// Data at the edges of regions, chunks and pages, and two pages of zeros that are
/// there.
fn ram() -> Ram {
    let ram = empty_ram();
    for (at, byte) in [(0, 1), (MIB - 1, 2), (10 * MIB, 3), (16 * MIB - 1, 4)] {
        ram.file.write_all_at(&[byte], at).unwrap();
    }
    ram.file.write_all_at(&[0; 8192], 5 * MIB).unwrap();
    ram
}

fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(16 * MIB).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn saved() -> TempDir {
    let dir = tempdir().unwrap();
    save(
        dir.path(),
        &config(),
        json!({"tsc": 7}),
        &ram(),
        &Cancel::default(),
    )
    .unwrap();
    dir
}

fn names(dir: &Path) -> Vec<String> {
    let mut names = read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect::<Vec<_>>();
    names.sort();
    names
}

/// The refusal, without the directory's name.
fn refusal(dir: &TempDir) -> String {
    let text = one_line(&Snapshot::open(dir.path()).unwrap_err());
    assert!(!text.contains('\n'), "{text}");
    text.replace(dir.path().to_str().unwrap(), "DIR")
}

fn edit(dir: &TempDir, name: &str, change: impl FnOnce(&mut Value)) {
    let path = dir.path().join(name);
    let mut value = from_str(&read_to_string(&path).unwrap()).unwrap();
    change(&mut value);
    write(path, to_string(&value).unwrap()).unwrap();
}

#[test]
fn a_snapshot_comes_back_as_it_was() {
    let dir = saved();
    assert_eq!(names(dir.path()), ["config.json", "memory", "state.json"]);
    let snapshot = Snapshot::open(dir.path()).unwrap();
    assert_eq!(*snapshot.config(), config());
    assert_eq!(snapshot.machine::<Value>().unwrap(), json!({"tsc": 7}));
    let filled = empty_ram();
    snapshot.fill(&filled).unwrap();
    assert_eq!(contents(&filled.file), contents(&ram().file));
}

#[test]
fn zero_pages_and_holes_are_not_stored() {
    let dir = tempdir().unwrap();
    let written = save(
        dir.path(),
        &config(),
        Value::Null,
        &ram(),
        &Cancel::default(),
    )
    .unwrap();
    assert_eq!(written, 4 * 4096, "one page per byte that is not zero");
    let memory = metadata(dir.path().join("memory")).unwrap();
    assert_eq!(memory.len(), 16 * MIB);
    assert!(memory.blocks() * 512 <= MIB, "{} blocks", memory.blocks());
    let filled = empty_ram();
    Snapshot::open(dir.path()).unwrap().fill(&filled).unwrap();
    let blocks = filled.file.metadata().unwrap().blocks();
    assert!(blocks * 512 <= MIB, "{blocks} blocks");
}

#[test]
fn a_directory_with_a_snapshot_is_left_alone() {
    let dir = saved();
    let before = read_to_string(dir.path().join("state.json")).unwrap();
    let error = save(
        dir.path(),
        &config(),
        json!({"tsc": 8}),
        &ram(),
        &Cancel::default(),
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("state.json exists; give a directory without a snapshot")
    );
    assert_eq!(
        read_to_string(dir.path().join("state.json")).unwrap(),
        before
    );
}

#[test]
fn what_a_killed_writer_left_is_no_hindrance() {
    let dir = tempdir().unwrap();
    write(dir.path().join(".memory.tmp"), [7; 4096]).unwrap();
    save(
        dir.path(),
        &config(),
        Value::Null,
        &empty_ram(),
        &Cancel::default(),
    )
    .unwrap();
    assert_eq!(names(dir.path()), ["config.json", "memory", "state.json"]);
    let filled = empty_ram();
    Snapshot::open(dir.path()).unwrap().fill(&filled).unwrap();
    assert!(contents(&filled.file).iter().all(|&byte| byte == 0));
}

#[test]
fn a_cancelled_snapshot_leaves_nothing() {
    let dir = tempdir().unwrap();
    let cancel = Cancel::default();
    cancel.cancel();
    let error = save(dir.path(), &config(), Value::Null, &ram(), &cancel).unwrap_err();
    assert_eq!(error.to_string(), "the snapshot was called off");
    assert_eq!(names(dir.path()), [""; 0]);
}

/// The disk is full from a certain length of a file on: the limit belongs to a process,
/// so the test runs itself again as a child that has it.
#[test]
fn a_snapshot_that_runs_out_of_space_leaves_nothing() {
    const CHILD: &str = "VMM_TEST_LIMITED_DIR";
    const NAME: &str = "snapshot::tests::a_snapshot_that_runs_out_of_space_leaves_nothing";
    if let Some(dir) = env::var_os(CHILD) {
        let ram = ram();
        // SAFETY: ignoring a signal installs no handler.
        unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.unwrap();
        setrlimit(Resource::RLIMIT_FSIZE, MIB / 2, MIB / 2).unwrap();
        let error = save(
            Path::new(&dir),
            &config(),
            Value::Null,
            &ram,
            &Cancel::default(),
        )
        .unwrap_err();
        let error = one_line(&error);
        assert!(
            error.ends_with(".memory.tmp cannot be written: File too large (os error 27)"),
            "{error}"
        );
        return;
    }
    let dir = tempdir().unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", NAME])
        .env(CHILD, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn a_missing_file_is_named() {
    for name in ["config.json", "memory", "state.json"] {
        let dir = saved();
        remove_file(dir.path().join(name)).unwrap();
        assert_eq!(
            refusal(&dir),
            format!("DIR/{name} cannot be read: No such file or directory (os error 2)")
        );
    }
}

#[test]
fn another_version_is_named_before_anything_else() {
    let dir = saved();
    edit(&dir, "state.json", |state| {
        *state = json!({"version": 2, "what": "ever"});
    });
    assert_eq!(
        refusal(&dir),
        "DIR/state.json has version 2, this build reads version 1; restore it with the build \
         that wrote it"
    );
}

#[test]
fn a_truncated_memory_file_is_refused() {
    let dir = saved();
    let memory = OpenOptions::new()
        .write(true)
        .open(dir.path().join("memory"))
        .unwrap();
    for size in [0, 16 * MIB - 1, 16 * MIB + 1] {
        memory.set_len(size).unwrap();
        assert_eq!(
            refusal(&dir),
            format!(
                "DIR/memory has {size} bytes, the snapshot's RAM has 16777216; it was truncated \
                 or belongs to another snapshot"
            )
        );
    }
}

#[test]
fn a_damaged_state_is_refused() {
    let dir = saved();
    let path = dir.path().join("state.json");
    let text = read_to_string(&path).unwrap();
    write(&path, &text[..text.len() / 2]).unwrap();
    assert!(refusal(&dir).starts_with("DIR/state.json does not hold what it should: "));

    write(&path, "{}").unwrap();
    assert!(refusal(&dir).contains("missing field `version`"));

    let dir = saved();
    edit(&dir, "state.json", |state| state["more"] = json!(1));
    assert!(refusal(&dir).contains("unknown field `more`"));

    let dir = saved();
    edit(&dir, "state.json", |state| {
        state["ram"][1]["offset"] = json!(u64::MAX);
    });
    assert!(refusal(&dir).starts_with("DIR/memory has 16777216 bytes"));
    edit(&dir, "state.json", |state| {
        state["ram"][1]["size"] = json!(u64::MAX);
    });
    assert!(refusal(&dir).starts_with("DIR/config.json asks for 16777216 bytes of RAM"));

    let dir = saved();
    let snapshot = Snapshot::open(dir.path()).unwrap();
    let error = snapshot.machine::<String>().unwrap_err().to_string();
    assert!(
        error.contains("state.json does not hold what it should"),
        "{error}"
    );
}

#[test]
fn an_edited_configuration_has_to_fit() {
    let dir = saved();
    edit(&dir, "config.json", |config| {
        config["memory"]["size"] = json!(32 * MIB);
    });
    assert_eq!(
        refusal(&dir),
        "DIR/config.json asks for 33554432 bytes of RAM, the snapshot has 16777216"
    );
    edit(&dir, "config.json", |config| {
        config["cpus"]["boot_vcpus"] = json!(9);
    });
    assert!(refusal(&dir).starts_with("DIR/config.json is wrong: --cpus boot=9"));
}

#[test]
fn another_layout_is_refused() {
    let dir = saved();
    let mut ram = empty_ram();
    ram.regions[1].guest_base += MIB;
    let error = Snapshot::open(dir.path()).unwrap().fill(&ram).unwrap_err();
    assert!(matches!(error, SnapshotError::Layout(_)), "{error}");
}

#[test]
fn a_url_names_an_existing_directory() {
    let dir = tempdir().unwrap();
    let url = format!("file://{}", dir.path().display());
    assert_eq!(directory(&url).unwrap(), dir.path());
    for wrong in ["/tmp", "tcp://h/d", "file://", ""] {
        assert_eq!(
            directory(wrong).unwrap_err().to_string(),
            format!("`{wrong}` is no snapshot URL; give file:///DIRECTORY")
        );
    }
    assert_eq!(
        directory("file:///no/such/place").unwrap_err().to_string(),
        "/no/such/place is not a directory; give an existing one"
    );
}
