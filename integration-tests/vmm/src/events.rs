// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The event monitor: what happens, as JSON, in cloud-hypervisor's format.
//!
//! Each event is a pretty-printed object with `timestamp` (since start, seconds and
//! nanoseconds), `source`, `event` and `properties` (an object of strings, or null),
//! followed by an empty line. A thread of its own writes them, so that a slow reader
//! holds up nobody. A guest can cause events faster than a reader takes them: then
//! events are dropped, and the next one that gets through says how many (`vmm`,
//! `events-lost`).

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use log::{info, warn};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde::Serialize;
use thiserror::Error;

use crate::config::Endpoint;
use crate::spool::{Spool, SpoolWriter};

/// Where a machine's events go.
pub trait EventSink: Send + Sync {
    /// `source` is `virtio-device` for a pmem device, whose `properties` have at least its
    /// `id`. Never waits.
    fn event(&self, source: &str, event: &str, properties: &[(&str, &str)]);
}

/// The event monitor cannot start.
#[derive(Debug, Error)]
pub enum EventError {
    /// The file cannot be made.
    #[error("--event-monitor path={path}: cannot be written")]
    Path {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The descriptor is not open for us.
    #[error("--event-monitor fd={fd}: not an open file descriptor")]
    Fd {
        /// Its number.
        fd: RawFd,
        /// Why.
        source: io::Error,
    },
    /// No thread.
    #[error("the event monitor's thread cannot start")]
    Thread(#[source] io::Error),
}

#[derive(Serialize)]
struct Event<'a> {
    timestamp: Duration,
    source: &'a str,
    event: &'a str,
    properties: Option<BTreeMap<&'a str, &'a str>>,
}

/// Takes events, logs them and hands them to the writer.
pub struct EventMonitor {
    start: Instant,
    lost: AtomicU64,
    spool: Option<Spool>,
}

impl EventMonitor {
    /// A monitor that only logs.
    #[must_use]
    pub fn silent() -> Self {
        Self {
            start: Instant::now(),
            lost: AtomicU64::new(0),
            spool: None,
        }
    }

    /// A monitor that writes to `endpoint`.
    ///
    /// # Errors
    /// The file cannot be made or the descriptor is not open.
    pub fn start(endpoint: &Endpoint) -> Result<(Self, SpoolWriter), EventError> {
        let file = match endpoint {
            Endpoint::Path(path) => OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .open(path)
                .map_err(|source| EventError::Path {
                    path: path.display().to_string(),
                    source,
                })?,
            Endpoint::Fd(fd) => {
                take_fd(*fd).map_err(|source| EventError::Fd { fd: *fd, source })?
            }
        };
        let (spool, writer) = Spool::start("event-monitor", file, |error| {
            warn!("the event monitor stops: its file cannot be written: {error}");
        })
        .map_err(EventError::Thread)?;
        let monitor = Self {
            spool: Some(spool),
            ..Self::silent()
        };
        Ok((monitor, writer))
    }

    fn send(&self, source: &str, event: &str, properties: &[(&str, &str)]) -> bool {
        let Some(spool) = &self.spool else {
            return true;
        };
        let event = Event {
            timestamp: self.start.elapsed(),
            source,
            event,
            properties: (!properties.is_empty()).then(|| properties.iter().copied().collect()),
        };
        let Ok(mut text) = serde_json::to_string_pretty(&event) else {
            return false;
        };
        text.push_str("\n\n");
        spool.push(text)
    }
}

impl EventSink for EventMonitor {
    fn event(&self, source: &str, event: &str, properties: &[(&str, &str)]) {
        info!("Event: source = {source} event = {event} {properties:?}");
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 && !self.send("vmm", "events-lost", &[("count", &lost.to_string())]) {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
        if !self.send(source, event, properties) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Takes over a descriptor that the process was started with.
fn take_fd(fd: RawFd) -> io::Result<File> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the number is only asked about; if it is not open, fcntl says so.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open (fcntl accepted it), and the user gave it to us to own.
    Ok(unsafe { File::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use std::env::consts::ARCH;
    use std::fs::read_to_string;
    use std::io::{BufReader, Read, pipe};
    use std::os::fd::IntoRawFd;
    use std::path::Path;
    use std::sync::mpsc::sync_channel;
    use std::thread::spawn;

    use pmem_flush::worker_rules;
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
    use serde_json::{Deserializer, Value, json};
    use tempfile::tempdir;

    use super::*;
    use crate::error::one_line;
    use crate::spool::QUEUE;

    fn read(path: &Path) -> Vec<Value> {
        let text = read_to_string(path).unwrap();
        Deserializer::from_str(&text)
            .into_iter()
            .collect::<Result<_, _>>()
            .unwrap()
    }

    #[test]
    fn an_event_has_cloud_hypervisors_format() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("events");
        let (monitor, writer) = EventMonitor::start(&Endpoint::Path(path.clone())).unwrap();
        monitor.event("vmm", "starting", &[]);
        monitor.event("virtio-device", "activated", &[("id", "_pmem0")]);
        drop(monitor);
        writer.finish();

        let mut events = read(&path);
        for event in &mut events {
            let timestamp = event["timestamp"].take();
            assert!(timestamp["secs"].is_u64() && timestamp["nanos"].is_u64());
        }
        assert_eq!(
            events,
            [
                json!({"timestamp": null, "source": "vmm", "event": "starting", "properties": null}),
                json!({"timestamp": null, "source": "virtio-device", "event": "activated",
                       "properties": {"id": "_pmem0"}}),
            ]
        );
        let text = read_to_string(&path).unwrap();
        assert!(text.ends_with("}\n\n") && text.contains("}\n\n{"), "{text}");
    }

    #[test]
    fn an_event_goes_to_a_descriptor() {
        let (mut reader, writing) = pipe().unwrap();
        let endpoint = Endpoint::Fd(writing.into_raw_fd());
        let (monitor, writer) = EventMonitor::start(&endpoint).unwrap();
        monitor.event("vm", "paused", &[]);
        drop(monitor);
        writer.finish();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text.contains("\"paused\""), "{text}");
    }

    #[test]
    fn a_reader_that_does_not_read_holds_up_nobody_and_learns_what_it_missed() {
        let (reader, writing) = pipe().unwrap();
        let endpoint = Endpoint::Fd(writing.into_raw_fd());
        let (monitor, writer) = EventMonitor::start(&endpoint).unwrap();
        // More than a pipe and the queue hold.
        const SENT: u64 = 16384;
        for _ in 0..SENT {
            monitor.event("virtio-device", "flush-failed", &[("id", "_pmem0")]);
        }
        let lost = monitor.lost.load(Ordering::Relaxed);
        assert!(lost > 0, "nothing was lost");
        let (stop, end) = sync_channel(0);
        let reading = spawn(move || {
            let mut seen = (0_u64, 0_u64);
            let events = Deserializer::from_reader(BufReader::new(reader)).into_iter::<Value>();
            for event in events {
                let event = event.unwrap();
                match event["event"].as_str() {
                    Some("flush-failed") => seen.0 += 1,
                    Some("events-lost") => {
                        let count = event["properties"]["count"].as_str().unwrap();
                        seen.1 += count.parse::<u64>().unwrap();
                    }
                    Some("last") => break,
                    other => panic!("{other:?}"),
                }
            }
            stop.send(()).unwrap();
            seen
        });
        // The reader ends at the first `last` that gets through.
        let mut tries = 0;
        while end.recv_timeout(Duration::from_millis(10)).is_err() {
            monitor.event("vmm", "last", &[]);
            tries += 1;
            assert!(tries < 1000, "the reader never came to an end");
        }
        let (read, missed) = reading.join().unwrap();
        assert!(missed >= lost, "{missed} of {lost}");
        assert!(read + missed >= SENT, "{read} + {missed} of {SENT}");
        drop(monitor);
        writer.finish();
    }

    /// The engine's worker tells of events too, under its seccomp filter: a call that it
    /// forbids kills this process.
    #[test]
    fn an_event_may_come_from_a_thread_under_the_engines_filter() {
        let (reader, writing) = pipe().unwrap();
        let endpoint = Endpoint::Fd(writing.into_raw_fd());
        let (monitor, writer) = EventMonitor::start(&endpoint).unwrap();
        spawn(move || {
            let rules = worker_rules().unwrap().into_iter().collect();
            let arch = ARCH.try_into().unwrap();
            let filter = SeccompFilter::new(
                rules,
                SeccompAction::KillProcess,
                SeccompAction::Allow,
                arch,
            );
            let program: BpfProgram = filter.unwrap().try_into().unwrap();
            apply_filter(&program).unwrap();
            // The queue runs full: all of its ways are taken.
            for _ in 0..2 * QUEUE {
                monitor.event("virtio-device", "latched", &[("id", "_pmem0")]);
            }
        })
        .join()
        .unwrap();
        drop(reader);
        writer.finish();
    }

    #[test]
    fn a_wrong_endpoint_is_named() {
        let error = |endpoint| one_line(&EventMonitor::start(&endpoint).err().unwrap());
        assert_eq!(
            error(Endpoint::Path("/no/such/dir/e".into())),
            "--event-monitor path=/no/such/dir/e: cannot be written: No such file or directory \
             (os error 2)"
        );
        assert_eq!(
            error(Endpoint::Fd(9999)),
            "--event-monitor fd=9999: not an open file descriptor: Bad file descriptor (os error 9)"
        );
    }
}
