// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The load engine against ordinary files.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs::{File, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use guest_agent::load::{Load, LoadError};
use guest_agent::verify::verify;
use guest_agent::wire::{AckPlace, Event, LoadKind, LoadReport, LoadSpec, OnError, Pick, SyncCall};
use tempfile::TempDir;

struct Place {
    dir: TempDir,
}

const LIMIT: Duration = Duration::from_secs(60);

fn resolve(device: &str) -> io::Result<PathBuf> {
    Ok(PathBuf::from(device))
}

impl Place {
    fn new() -> Self {
        let place = Self {
            dir: TempDir::new().unwrap(),
        };
        for name in ["data", "ack"] {
            File::create(place.path(name))
                .unwrap()
                .set_len(4 << 20)
                .unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn spec(&self, kind: LoadKind) -> LoadSpec {
        let mut spec = LoadSpec::new(kind, 3, 8, 5);
        spec.syncs_per_thread = 20;
        spec.ack = Some(AckPlace {
            device: self.path("ack"),
            offset: 0,
        });
        spec
    }

    fn raw(&self) -> LoadKind {
        LoadKind::Raw {
            device: self.path("data"),
        }
    }
}

fn start(spec: &LoadSpec) -> Result<(Load, mpsc::Receiver<Event>), LoadError> {
    let (sender, events) = mpsc::channel();
    let notify = Box::new(move |event| {
        let _ = sender.send(event);
    });
    Ok((Load::start("test", spec, &resolve, notify)?, events))
}

fn ended(events: &mpsc::Receiver<Event>) -> LoadReport {
    let until = Instant::now() + LIMIT;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if let Event::LoadEnded { report } = events.recv_timeout(left).unwrap() {
            return report;
        }
    }
}

#[test]
fn every_kind_of_load_holds_against_its_acks() {
    let place = Place::new();
    let files = |name: &str| place.path(name);
    for (kind, data) in [
        (place.raw(), "data"),
        (
            LoadKind::File {
                dir: files("append"),
                append: true,
            },
            "append",
        ),
        (
            LoadKind::File {
                dir: files("allocated"),
                append: false,
            },
            "allocated",
        ),
        (LoadKind::Mmap { dir: files("map") }, "map"),
    ] {
        let mut spec = place.spec(kind);
        spec.sync = SyncCall::Fdatasync;
        spec.writes_per_sync = 3;
        spec.pick = Pick::Random;
        let (_load, events) = start(&spec).unwrap();
        let report = ended(&events);
        assert_eq!(
            (report.fsyncs, report.errors),
            (60, 0),
            "{data}: {report:?}"
        );
        assert_eq!(report.latency.count, 60);
        assert!(report.threads.iter().all(|thread| thread.writes == 60));
        let held = verify(files(data).as_ref(), files("ack").as_ref(), 0);
        let held = held.unwrap();
        assert!(held.holds(), "{data}: {held:?}");
        assert_eq!(held.exact, held.acked, "{data}");
        assert_eq!((held.fsyncs, held.acked_writes), (60, 180), "{data}");
        assert_eq!(held.run, report.run, "{data}");
    }
}

#[test]
fn a_stopped_load_ends_and_its_last_sync_is_acked() {
    let place = Place::new();
    let mut spec = place.spec(place.raw());
    spec.syncs_per_thread = 0;
    let (load, events) = start(&spec).unwrap();
    while load.report().fsyncs < 30 {
        thread::yield_now();
    }
    load.stop();
    let report = ended(&events);
    let held = verify(place.path("data").as_ref(), place.path("ack").as_ref(), 0).unwrap();
    assert!(held.holds(), "{held:?}");
    assert_eq!(held.fsyncs, report.fsyncs);
    assert_eq!((held.newer, held.overwriting), (0, 0));
    assert!(!load.is_running());
}

#[test]
fn a_sleeping_thread_wakes_up_to_stop() {
    let place = Place::new();
    let mut spec = place.spec(place.raw());
    spec.pace_us = 3_600_000_000;
    let (load, events) = start(&spec).unwrap();
    while load.report().fsyncs < 3 {
        thread::yield_now();
    }
    load.stop();
    assert_eq!(ended(&events).fsyncs, 3);
}

#[test]
fn a_load_ends_at_its_time() {
    let place = Place::new();
    let mut spec = place.spec(place.raw());
    spec.syncs_per_thread = 0;
    spec.duration_ms = 200;
    let (_load, events) = start(&spec).unwrap();
    let report = ended(&events);
    assert!((200..30_000).contains(&report.elapsed_ms), "{report:?}");
}

/// A mapping whose file was cut short faults: an error to count, not a signal that ends the
/// process.
#[test]
fn errors_are_counted_by_errno_and_end_a_thread_or_not() {
    for on_error in [OnError::Stop, OnError::GoOn] {
        let place = Place::new();
        let mut spec = place.spec(LoadKind::Mmap {
            dir: place.path("map"),
        });
        spec.syncs_per_thread = 0;
        spec.on_error = on_error;
        let (load, events) = start(&spec).unwrap();
        while load.report().fsyncs < 10 {
            thread::yield_now();
        }
        for thread in 0..3 {
            let path = place.path(&format!("map/load-{thread}.dat"));
            OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(0)
                .unwrap();
        }
        if on_error == OnError::GoOn {
            let failing = |report: LoadReport| {
                report
                    .threads
                    .iter()
                    .all(|thread| thread.errors.iter().any(|error| error.count > 1))
            };
            while !failing(load.report()) {
                thread::yield_now();
            }
            load.stop();
        }
        let report = ended(&events);
        for thread in &report.threads {
            let errors = &thread.errors;
            assert_eq!(errors.len(), 1, "{errors:?}");
            assert_eq!(errors[0].errno, libc::EFAULT);
            assert!(
                thread
                    .first_error
                    .as_ref()
                    .unwrap()
                    .starts_with("write of block")
            );
            if on_error == OnError::Stop {
                assert_eq!(errors[0].count, 1);
            }
        }
        let held = verify(place.path("map").as_ref(), place.path("ack").as_ref(), 0).unwrap();
        assert_eq!(held.errors, report.errors);
        let errno = held.threads[0].counters.last_errno;
        assert_eq!(errno, libc::EFAULT);
        assert!(held.bad > 0, "the cut files hold nothing");
    }
}

#[test]
fn an_order_that_makes_no_sense_is_refused_by_name() {
    let place = Place::new();
    let refused = |change: fn(&mut LoadSpec), text: &str| {
        let mut spec = place.spec(place.raw());
        change(&mut spec);
        let error = start(&spec).err().unwrap().to_string();
        assert!(error.contains(text), "{error}");
    };
    refused(|spec| spec.threads = 0, "threads is 0: 1 to 256");
    refused(|spec| spec.threads = 257, "threads is 257");
    refused(|spec| spec.blocks_per_thread = 0, "blocks_per_thread is 0");
    refused(
        |spec| spec.blocks_per_thread = 400,
        "must end within the 4194304 bytes",
    );
    refused(|spec| spec.first_block = u64::MAX, "must end within");
    refused(
        |spec| spec.writes_per_sync = 9,
        "writes_per_sync is 9: at most",
    );
    refused(
        |spec| spec.ack.as_mut().unwrap().offset = 512,
        "ack.offset is 512: a multiple of 4096",
    );
    refused(
        |spec| spec.ack.as_mut().unwrap().offset = (4 << 20) - 4096,
        "this load's acks need at least",
    );
    refused(
        |spec| {
            let LoadKind::Raw { device } = &spec.kind else {
                return;
            };
            spec.ack.as_mut().unwrap().device = device.clone();
        },
        "another device than the data's",
    );
    refused(
        |spec| {
            spec.kind = LoadKind::Raw {
                device: "/nowhere".to_owned(),
            }
        },
        "cannot open /nowhere",
    );
}
