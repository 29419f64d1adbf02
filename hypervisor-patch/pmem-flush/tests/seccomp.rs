// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! The worker's filter is on and kills: tried in a child process.
#![cfg(not(loom))]

use std::collections::HashMap;
use std::env;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pmem_flush::test_utils::PATIENCE;
use pmem_flush::{
    EngineConfig, Error, FileStamp, FlushEngine, SyncBackend, WorkerSeccomp, worker_rules,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

const CHILD: &str = "PMEM_FLUSH_SECCOMP_CHILD";

/// A file whose sync does something else as well.
struct Trespasser {
    file: File,
    trespass: fn(),
}

impl SyncBackend for Trespasser {
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        (self.trespass)();
        self.file.sync_all()
    }

    fn stamp(&self) -> io::Result<FileStamp> {
        FileStamp::of(&self.file)
    }
}

fn write_to_a_path() {
    let _ = File::options().write(true).open("/dev/null");
}

fn open_with(flags: libc::c_int) {
    // SAFETY: the path is a string that ends with a 0.
    unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | flags, 0o600) };
}

fn create_a_path() {
    open_with(libc::O_CREAT);
}

fn truncate_a_path() {
    open_with(libc::O_TRUNC);
}

fn panic_with_words() {
    panic!("the worker's last words");
}

/// Not forbidden, but it fails.
fn read_a_path() {
    let error = File::open("/proc/self/maps").expect_err("open");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}

fn read_a_path_that_may_be_read() {
    File::open("/proc/self/maps").expect("open");
}

fn stat_a_path() {
    let _ = fs::metadata("/");
}

fn make_a_socket() {
    // SAFETY: takes numbers only.
    unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
}

fn nothing() {}

/// What an observer may put an event's properties into; a thread's first one
/// asks the kernel for its seed.
fn make_a_map() {
    assert!(HashMap::from([("errno", 5)]).contains_key("errno"));
}

/// Frees so much at the end of its heap that the C library gives memory back. Glibc reads a sysctl before it does
/// so for the first time.
fn trim_a_heap() {
    let blocks: Vec<_> = (0..64_u8).map(|byte| vec![byte; 60 << 10]).collect();
    assert_eq!(blocks.iter().map(Vec::len).sum::<usize>(), (64 * 60) << 10);
}

/// Has the worker sync once; the worker ends the process if the filter says so.
fn sync_with(trespass: fn(), seccomp: WorkerSeccomp) -> Result<(), Error> {
    sync_within(trespass, seccomp, PATIENCE)
}

fn sync_within(trespass: fn(), seccomp: WorkerSeccomp, time: Duration) -> Result<(), Error> {
    let backend = Arc::new(Trespasser {
        file: tempfile::tempfile().expect("file"),
        trespass,
    });
    let config = EngineConfig {
        seccomp,
        ..EngineConfig::new("pmem0")
    };
    let engine = FlushEngine::new(config, backend, Arc::new(()))?;
    let deadline = Instant::now() + time;
    engine.begin_drain(deadline);
    engine.wait_drain()?;
    engine.sync_file(deadline, false).map(drop)
}

/// Runs one of the tests below again, in a child that then does `act`.
fn in_child(test: &str) -> ExitStatus {
    child(test).status
}

fn child(test: &str) -> Output {
    let mut child = Command::new(env::current_exe().expect("this test"));
    child.args(["--exact", test, "--test-threads=1", "--nocapture"]);
    child
        .env(CHILD, "1")
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("child")
}

fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

fn dies_of_sigsys(test: &str, trespass: fn()) {
    if is_child() {
        // Only reached again if the filter failed to kill.
        let _ = sync_with(trespass, WorkerSeccomp::default());
        return;
    }
    assert_eq!(in_child(test).signal(), Some(libc::SIGSYS));
}

fn lives(test: &str, act: fn()) {
    if is_child() {
        sync_with(act, WorkerSeccomp::default()).expect("sync");
        return;
    }
    assert!(in_child(test).success());
}

#[test]
fn opening_a_path_to_write_kills_the_process() {
    let test = "opening_a_path_to_write_kills_the_process";
    dies_of_sigsys(test, write_to_a_path);
}

#[test]
fn creating_a_path_kills_the_process() {
    dies_of_sigsys("creating_a_path_kills_the_process", create_a_path);
}

#[test]
fn truncating_a_path_kills_the_process() {
    dies_of_sigsys("truncating_a_path_kills_the_process", truncate_a_path);
}

#[test]
fn a_panic_gets_its_words_out() {
    if is_child() {
        // A worker that is gone answers nobody.
        let time = Duration::from_secs(3);
        let _ = sync_within(panic_with_words, WorkerSeccomp::default(), time);
        return;
    }
    let said = child("a_panic_gets_its_words_out");
    let text = String::from_utf8_lossy(&said.stderr);
    assert!(text.contains("the worker's last words"), "{text}");
    assert_ne!(said.status.signal(), Some(libc::SIGSYS));
}

#[test]
fn opening_a_path_to_read_fails() {
    lives("opening_a_path_to_read_fails", read_a_path);
}

#[test]
fn stat_of_a_path_kills_the_process() {
    dies_of_sigsys("stat_of_a_path_kills_the_process", stat_a_path);
}

#[test]
fn making_a_socket_kills_the_process() {
    dies_of_sigsys("making_a_socket_kills_the_process", make_a_socket);
}

#[test]
fn the_workers_own_calls_are_allowed() {
    sync_with(nothing, WorkerSeccomp::default()).unwrap();
}

#[test]
fn an_observer_may_make_a_map() {
    lives("an_observer_may_make_a_map", make_a_map);
}

#[test]
fn freeing_memory_is_allowed() {
    lives("freeing_memory_is_allowed", trim_a_heap);
}

#[test]
fn a_host_can_bring_its_own_program() {
    if is_child() {
        let rules = worker_rules().unwrap().into_iter().collect();
        let filter = SeccompFilter::new(
            rules,
            SeccompAction::KillProcess,
            SeccompAction::Allow,
            env::consts::ARCH.try_into().unwrap(),
        );
        let program: BpfProgram = filter.unwrap().try_into().unwrap();
        sync_with(nothing, WorkerSeccomp::Program(program.clone())).unwrap();
        let _ = sync_with(write_to_a_path, WorkerSeccomp::Program(program));
        return;
    }
    let status = in_child("a_host_can_bring_its_own_program");
    assert_eq!(status.signal(), Some(libc::SIGSYS));
}

#[test]
fn a_bad_program_is_refused_when_the_engine_is_made() {
    // One instruction that is none.
    let program: BpfProgram = vec![seccompiler::sock_filter {
        code: 0xffff,
        jt: 0,
        jf: 0,
        k: 0,
    }];
    let error = sync_with(nothing, WorkerSeccomp::Program(program)).unwrap_err();
    assert!(matches!(error, Error::ApplyFilter(_)), "{error}");
}

#[test]
fn the_filter_can_be_switched_off() {
    sync_with(read_a_path_that_may_be_read, WorkerSeccomp::Off).unwrap();
}
