// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The loop, the API's server and its socket, with a fake machine: what a client sees.

use std::fs::{create_dir, read, read_dir, write};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::id;
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};
use vmm_sys_util::eventfd::EventFd;

use super::*;
use crate::BUILD_VERSION;
use crate::api::{ApiServer, ApiSocket, SocketError, mailbox};
use crate::config::{
    ConsoleConfig, CpusConfig, MemoryConfig, PayloadConfig, PmemConfig, SerialConfig,
};
use crate::error::one_line;
use crate::machine::GuestExit;
use crate::machine::fake::Fake;

/// How long a client waits at most: long enough for a slow machine, short enough to see
/// a hang.
const PATIENCE: Duration = Duration::from_secs(60);

fn config() -> VmConfig {
    VmConfig {
        cpus: CpusConfig::default(),
        memory: MemoryConfig { size: 16 << 20 },
        payload: PayloadConfig {
            kernel: "/k".into(),
            cmdline: None,
            initramfs: None,
        },
        pmem: vec![PmemConfig::parse("file=/p", 0).unwrap()],
        serial: SerialConfig::default(),
        console: ConsoleConfig::default(),
    }
}

#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

impl EventSink for Events {
    fn event(&self, source: &str, event: &str, _properties: &[(&str, &str)]) {
        self.0.lock().unwrap().push(format!("{source} {event}"));
    }
}

/// A VMM in this process.
struct Vmm {
    dir: TempDir,
    fake: Fake,
    events: Events,
    stop: EventFd,
    thread: JoinHandle<Result<(), ControlError>>,
}

impl Vmm {
    fn start(fake: Fake, first: Action) -> Self {
        let dir = tempdir().unwrap();
        let events = Events::default();
        let stop = EventFd::new(0).unwrap();
        let stop_fd: OwnedFd = stop.as_fd_owned();
        let (mailbox, outbox) = mailbox().unwrap();
        let socket = ApiSocket::bind(&dir.path().join("api")).unwrap();
        let server = ApiServer::start(socket, outbox).unwrap();
        let control = (Box::new(fake.clone()), Arc::new(events.clone()));
        let thread = spawn(move || {
            let (factory, events) = control;
            let result =
                Control::new(factory, events, mailbox, StopSignal::from_fd(stop_fd)).run(first);
            drop(server);
            result
        });
        Self {
            dir,
            fake,
            events,
            stop,
            thread,
        }
    }

    fn booted(fake: Fake) -> Self {
        Self::start(fake, Action::Boot(Box::new(config())))
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("api")
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a request; [`Pending::answer`] waits for the answer.
    fn send(&self, method: &str, path: &str, body: &str) -> Pending {
        let mut stream = self.connect();
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let head = format!("{method} /api/v1/{path} HTTP/1.1\r\nConnection: close\r\n{length}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        // A body that is too long is not read to its end.
        stream.write_all(body.as_bytes()).ok();
        Pending(stream)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        self.send(method, path, body).answer()
    }

    fn put(&self, name: &str) -> (u16, Value) {
        self.ask("PUT", name, "")
    }

    fn get(&self, name: &str) -> (u16, Value) {
        self.ask("GET", name, "")
    }

    fn snapshot(&self, name: &str, more: &str) -> (u16, Value) {
        let url = format!("file://{}", self.dir.path().join(name).display());
        self.ask(
            "PUT",
            "vm.snapshot",
            &format!(r#"{{"destination_url":"{url}"{more}}}"#),
        )
    }

    fn state(&self) -> String {
        let (status, info) = self.get("vm.info");
        assert_eq!(status, 200, "{info}");
        info["state"].as_str().unwrap().to_owned()
    }

    /// Waits until the machine was asked for `call`.
    fn called(&self, call: &str) {
        let start = Instant::now();
        while !self.fake.script().calls.iter().any(|done| done == call) {
            assert!(start.elapsed() < PATIENCE, "never called: {call}");
            // The loop answers: it is alive, and each round trip lets it go on.
            assert_eq!(self.get("vmm.ping").0, 200);
        }
    }

    fn end(self) -> Result<(), ControlError> {
        self.stop.write(1).unwrap();
        self.thread.join().unwrap()
    }

    fn ended(self) -> (Result<(), ControlError>, Vec<String>) {
        let result = self.thread.join().unwrap();
        assert!(!self.dir.path().join("api").exists(), "the socket is left");
        let events = self.events.0.lock().unwrap().clone();
        (result, events)
    }
}

trait Owned {
    fn as_fd_owned(&self) -> OwnedFd;
}

impl Owned for EventFd {
    fn as_fd_owned(&self) -> OwnedFd {
        let fd = self.as_raw_fd();
        // SAFETY: the eventfd is open as long as it is borrowed here.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        fd.as_fd().try_clone_to_owned().unwrap()
    }
}

/// A request that was sent.
struct Pending(UnixStream);

impl Pending {
    fn answer(mut self) -> (u16, Value) {
        let mut text = Vec::new();
        // What is left unread of a body that is too long turns the end into a reset; the answer comes first.
        match self.0.read_to_end(&mut text) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => (),
            read => drop(read.unwrap()),
        }
        let text = String::from_utf8(text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.to_lowercase()
                .contains("content-type: application/json"),
            "{head}"
        );
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(body).unwrap()
        };
        (status, body)
    }
}

const DONE: (u16, Value) = (204, Value::Null);

fn refused(reasons: &[&str]) -> (u16, Value) {
    let mut body = vec!["Error from API"];
    body.extend(reasons);
    (500, json!(body))
}

#[test]
fn answers_have_cloud_hypervisors_shape() {
    let vmm = Vmm::booted(Fake::new());
    let (status, ping) = vmm.get("vmm.ping");
    assert_eq!(status, 200);
    assert_eq!(ping["build_version"], json!(BUILD_VERSION));
    assert_eq!(ping["version"], json!("0.1.0"));
    assert_eq!(ping["pid"], json!(id()));
    assert!(ping["features"].is_array());

    let (status, info) = vmm.get("vm.info");
    assert_eq!(status, 200);
    assert_eq!(info["state"], json!("Running"));
    assert_eq!(info["memory_actual_size"], json!(16 << 20));
    assert_eq!(info["config"]["pmem"][0]["id"], json!("_pmem0"));

    assert_eq!(
        vmm.get("vm.counters"),
        (200, json!({"_pmem0": {"flushes": 3}}))
    );
    assert_eq!(vmm.put("vm.power-button"), DONE);
    vmm.end().unwrap();
}

#[test]
fn what_is_no_request_is_refused() {
    let vmm = Vmm::booted(Fake::new());
    let not_found = (404, json!(["Not Found"]));
    let bad = (400, json!(["Bad Request"]));
    assert_eq!(vmm.get("vm.unknown"), not_found);
    assert_eq!(vmm.put("vm.unknown"), not_found);
    assert_eq!(vmm.get("../v2/vm.info"), not_found);
    assert_eq!(vmm.put("vm.info"), bad);
    assert_eq!(vmm.get("vm.pause"), bad);
    assert_eq!(vmm.ask("PUT", "vm.pause", "{}"), bad);
    assert_eq!(vmm.put("vm.snapshot"), bad);
    assert_eq!(vmm.ask("DELETE", "vm.info", ""), (400, Value::Null));
    let (status, reasons) = vmm.ask("PUT", "vm.snapshot", r#"{"url":1}"#);
    assert_eq!(status, 400);
    assert_eq!(reasons[0], json!("Failed to deserialize JSON"));
    assert!(reasons[1].as_str().unwrap().contains("destination_url"));
    let (status, reasons) = vmm.ask("PUT", "vm.snapshot", &" ".repeat(1 << 20));
    assert_eq!(status, 400, "{reasons}");
    assert_eq!(vmm.state(), "Running");
    vmm.end().unwrap();
}

#[test]
fn pause_and_resume() {
    let vmm = Vmm::booted(Fake::new());
    assert_eq!(vmm.put("vm.pause"), DONE);
    assert_eq!(vmm.state(), "Paused");
    assert_eq!(
        vmm.put("vm.pause"),
        refused(&[
            "The VM could not be paused",
            "invalid VM state transition: Paused to Paused"
        ])
    );
    assert_eq!(vmm.put("vm.resume"), DONE);
    assert_eq!(vmm.state(), "Running");
    assert_eq!(
        vmm.put("vm.resume"),
        refused(&[
            "The VM could not resume",
            "invalid VM state transition: Running to Running"
        ])
    );
    assert_eq!(vmm.put("vmm.shutdown"), (200, Value::Null));
    let (result, events) = vmm.ended();
    result.unwrap();
    assert_eq!(
        events,
        [
            "vmm starting",
            "vm booting",
            "virtio-device activated",
            "vm booted",
            "vm pausing",
            "vm paused",
            "vm resuming",
            "vm resumed",
            "vm shutdown",
            "vm deleted",
            "vmm shutdown",
        ]
    );
}

#[test]
fn while_a_pause_is_under_way_the_loop_answers() {
    let fake = Fake::new();
    fake.script().at_once = false;
    let vmm = Vmm::booted(fake.clone());
    let pause = vmm.send("PUT", "vm.pause", "");
    vmm.called("pause");
    assert_eq!(vmm.get("vmm.ping").0, 200);
    assert_eq!(vmm.get("vm.counters").0, 200);
    assert_eq!(vmm.state(), "Running");
    let busy = "VM is busy: a pause is under way; try again when it has ended";
    assert_eq!(
        vmm.put("vm.pause"),
        refused(&["The VM could not be paused", busy])
    );
    assert_eq!(
        vmm.put("vm.resume"),
        refused(&["The VM could not resume", busy])
    );
    assert_eq!(
        vmm.snapshot("", ""),
        refused(&["The VM could not be snapshotted", busy])
    );
    fake.finish(Ok(()));
    assert_eq!(pause.answer(), DONE);
    assert_eq!(vmm.state(), "Paused");
    vmm.end().unwrap();
}

#[test]
fn a_pause_that_times_out_leaves_a_running_vm_that_can_be_paused() {
    let fake = Fake::new();
    fake.script().at_once = false;
    fake.script().drain_timeout = Duration::from_millis(50);
    let vmm = Vmm::booted(fake.clone());
    let start = Instant::now();
    assert_eq!(
        vmm.put("vm.pause"),
        refused(&[
            "The VM could not be paused",
            "pmem device _pmem0: drain timed out"
        ])
    );
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert_eq!(vmm.state(), "Running");
    fake.script().at_once = true;
    assert_eq!(vmm.put("vm.pause"), DONE);
    assert_eq!(vmm.state(), "Paused");
    vmm.end().unwrap();
}

#[test]
fn a_client_that_leaves_does_not_end_its_pause() {
    let fake = Fake::new();
    fake.script().at_once = false;
    let vmm = Vmm::booted(fake.clone());
    // Only when the request has been taken: one that is still unread when its
    // client hangs up need not be carried out.
    let client = vmm.send("PUT", "vm.pause", "");
    vmm.called("pause");
    drop(client);
    fake.finish(Ok(()));
    let start = Instant::now();
    while vmm.state() != "Paused" {
        assert!(start.elapsed() < PATIENCE, "never paused");
    }
    vmm.end().unwrap();
}

#[test]
fn a_client_that_says_nothing_holds_up_nobody() {
    let vmm = Vmm::booted(Fake::new());
    let silent = vmm.connect();
    let mut halfway = vmm.connect();
    halfway
        .write_all(b"PUT /api/v1/vm.pause HTTP/1.1\r\nContent-Length: 10\r\n\r\n12")
        .unwrap();
    assert_eq!(vmm.state(), "Running");
    let start = Instant::now();
    vmm.end().unwrap();
    assert!(start.elapsed() < PATIENCE);
    drop((silent, halfway));
}

#[test]
fn one_connection_takes_several_requests() {
    let vmm = Vmm::booted(Fake::new());
    let mut stream = vmm.connect();
    for _ in 0..3 {
        stream
            .write_all(b"PUT /api/v1/vm.power-button HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 204 No Content\r\n"));
    }
    vmm.end().unwrap();
}

#[test]
fn a_snapshot_is_written_and_restored() {
    let vmm = Vmm::booted(Fake::new());
    create_dir(vmm.dir.path().join("s")).unwrap();
    assert_eq!(
        vmm.snapshot("s", ""),
        refused(&[
            "The VM could not be snapshotted",
            "VM is not paused; a snapshot needs vm.pause first"
        ])
    );
    assert_eq!(vmm.put("vm.pause"), DONE);
    let (status, reasons) = vmm.snapshot("missing", "");
    assert_eq!(status, 500);
    assert!(
        reasons[2]
            .as_str()
            .unwrap()
            .ends_with("missing is not a directory; give an existing one"),
        "{reasons}"
    );
    assert_eq!(vmm.snapshot("s", ""), DONE);
    assert_eq!(vmm.state(), "Paused");
    let memory = read(vmm.dir.path().join("s/memory")).unwrap();
    assert_eq!(&memory[4096..4101], b"guest");
    let calls = vmm.fake.script().calls.clone();
    assert_eq!(calls, ["boot", "pause", "sync false", "save"]);

    let (status, reasons) = vmm.snapshot("s", "");
    assert_eq!(status, 500);
    assert!(
        reasons[2].as_str().unwrap().contains("state.json exists"),
        "{reasons}"
    );
    assert_eq!(vmm.put("vm.resume"), DONE);

    let url = format!("file://{}", vmm.dir.path().join("s").display());
    let restore = format!(r#"{{"source_url":"{url}"}}"#);
    assert_eq!(
        vmm.ask("PUT", "vm.restore", &restore),
        refused(&["The VM could not be restored", "VM is already created"])
    );

    let second = Vmm::start(Fake::new(), Action::Wait);
    assert_eq!(second.ask("PUT", "vm.restore", &restore), DONE);
    assert_eq!(second.state(), "Paused");
    assert_eq!(second.fake.script().calls, ["restore", r#"{"tsc":7}"#]);
    assert_eq!(second.put("vm.resume"), DONE);
    assert_eq!(second.state(), "Running");
    second.end().unwrap();

    let third = Vmm::start(
        Fake::new(),
        Action::Restore(RestoreConfig {
            source_url: url,
            allow_stale_pmem: false,
            resume: true,
        }),
    );
    assert_eq!(third.state(), "Running");
    third.end().unwrap();
    vmm.end().unwrap();
}

#[test]
fn a_stale_file_is_refused_by_name_and_can_be_allowed() {
    let vmm = Vmm::booted(Fake::new());
    create_dir(vmm.dir.path().join("s")).unwrap();
    assert_eq!(vmm.put("vm.pause"), DONE);
    assert_eq!(vmm.snapshot("s", ""), DONE);
    let url = format!("file://{}", vmm.dir.path().join("s").display());

    let fake = Fake::new();
    fake.script().stale = true;
    let second = Vmm::start(fake.clone(), Action::Wait);
    let body = format!(r#"{{"source_url":"{url}"}}"#);
    assert_eq!(
        second.ask("PUT", "vm.restore", &body),
        refused(&[
            "The VM could not be restored",
            "pmem device _pmem0: the file is stale"
        ])
    );
    // There is no VM then, and another try is possible.
    assert_eq!(second.get("vm.info").0, 404);
    let body = format!(r#"{{"source_url":"{url}","allow_stale_pmem":true}}"#);
    assert_eq!(second.ask("PUT", "vm.restore", &body), DONE);
    assert_eq!(second.state(), "Paused");
    second.end().unwrap();

    let third = Vmm::start(
        fake,
        Action::Restore(RestoreConfig {
            source_url: url,
            allow_stale_pmem: false,
            resume: false,
        }),
    );
    let (result, _) = third.ended();
    assert_eq!(
        one_line(&result.unwrap_err()),
        "the VM could not be restored: pmem device _pmem0: the file is stale"
    );
    vmm.end().unwrap();
}

#[test]
fn a_latched_device_fails_the_snapshot_by_name_unless_allowed() {
    let fake = Fake::new();
    fake.script().latched = true;
    let vmm = Vmm::booted(fake);
    create_dir(vmm.dir.path().join("s")).unwrap();
    assert_eq!(vmm.put("vm.pause"), DONE);
    assert_eq!(
        vmm.snapshot("s", ""),
        refused(&[
            "The VM could not be snapshotted",
            "pmem device _pmem0: latched"
        ])
    );
    assert_eq!(vmm.state(), "Paused");
    assert_eq!(vmm.snapshot("s", r#","allow_unsynced_pmem":true"#), DONE);
    assert!(vmm.fake.script().calls.contains(&"sync true".to_owned()));
    vmm.end().unwrap();
}

#[test]
fn a_failed_sync_writes_nothing_and_leaves_a_paused_vm() {
    let fake = Fake::new();
    let vmm = Vmm::booted(fake.clone());
    create_dir(vmm.dir.path().join("s")).unwrap();
    assert_eq!(vmm.put("vm.pause"), DONE);
    fake.script().at_once = false;
    let snapshot = {
        let url = format!("file://{}", vmm.dir.path().join("s").display());
        vmm.send(
            "PUT",
            "vm.snapshot",
            &format!(r#"{{"destination_url":"{url}"}}"#),
        )
    };
    vmm.called("sync false");
    assert_eq!(vmm.state(), "Paused");
    let busy = "VM is busy: a snapshot is under way; try again when it has ended";
    assert_eq!(
        vmm.put("vm.resume"),
        refused(&["The VM could not resume", busy])
    );
    assert_eq!(
        vmm.put("vm.power-button"),
        refused(&["Error triggering power button", busy])
    );
    fake.finish(Err("pmem device _pmem0: the sync failed"));
    assert_eq!(
        snapshot.answer(),
        refused(&[
            "The VM could not be snapshotted",
            "pmem device _pmem0: the sync failed"
        ])
    );
    assert_eq!(read_dir(vmm.dir.path().join("s")).unwrap().count(), 0);
    assert!(!fake.script().calls.contains(&"save".to_owned()));
    assert_eq!(vmm.put("vm.resume"), DONE);
    vmm.end().unwrap();
}

#[test]
fn without_a_vm_there_is_nothing_to_do() {
    let vmm = Vmm::start(Fake::new(), Action::Wait);
    assert_eq!(
        vmm.get("vm.info"),
        (
            404,
            json!([
                "Error from API",
                "The VM info is not available",
                "VM is not created"
            ])
        )
    );
    assert_eq!(
        vmm.get("vm.counters"),
        refused(&["The VM info is not available", "VM is not running"])
    );
    for (name, what) in [
        ("vm.pause", "The VM could not be paused"),
        ("vm.resume", "The VM could not resume"),
        ("vm.power-button", "Error triggering power button"),
        ("vm.shutdown", "The VM could not shutdown"),
    ] {
        assert_eq!(vmm.put(name), refused(&[what, "VM is not running"]));
    }
    vmm.end().unwrap();
}

#[test]
fn a_vm_that_was_shut_down_is_only_configured() {
    let vmm = Vmm::booted(Fake::new());
    assert_eq!(vmm.put("vm.shutdown"), DONE);
    assert_eq!(vmm.state(), "Created");
    assert_eq!(
        vmm.put("vm.pause"),
        refused(&["The VM could not be paused", "VM is not running"])
    );
    vmm.end().unwrap();
}

#[test]
fn a_shutdown_ends_a_pause_that_is_under_way() {
    let fake = Fake::new();
    fake.script().at_once = false;
    let vmm = Vmm::booted(fake);
    let pause = vmm.send("PUT", "vm.pause", "");
    vmm.called("pause");
    assert_eq!(vmm.put("vmm.shutdown"), (200, Value::Null));
    assert_eq!(
        pause.answer(),
        refused(&[
            "The VM could not be paused",
            "the VM ended before that was done"
        ])
    );
    vmm.ended().0.unwrap();
}

#[test]
fn a_shutdown_calls_off_a_snapshot_that_is_being_written() {
    let vmm = Vmm::booted(Fake::new());
    create_dir(vmm.dir.path().join("s")).unwrap();
    assert_eq!(vmm.put("vm.pause"), DONE);
    let url = format!("file://{}", vmm.dir.path().join("s").display());
    let snapshot = vmm.send(
        "PUT",
        "vm.snapshot",
        &format!(r#"{{"destination_url":"{url}"}}"#),
    );
    vmm.called("save");
    assert_eq!(vmm.put("vmm.shutdown"), (200, Value::Null));
    let (status, _) = snapshot.answer();
    let files = read_dir(vmm.dir.path().join("s")).unwrap().count();
    // Either it was done by then, or nothing of it is left.
    assert!(
        (status, files) == (204, 3) || (status, files) == (500, 0),
        "{status} with {files} files"
    );
    vmm.thread.join().unwrap().unwrap();
}

#[test]
fn a_guest_that_powers_off_ends_the_vmm() {
    let vmm = Vmm::booted(Fake::new());
    assert_eq!(vmm.state(), "Running");
    vmm.fake.exit(GuestExit::Shutdown);
    let (result, events) = vmm.ended();
    result.unwrap();
    assert_eq!(events[4..], ["vm shutdown", "vm deleted", "vmm shutdown"]);
}

#[test]
fn a_guest_that_resets_boots_again() {
    let vmm = Vmm::booted(Fake::new());
    assert_eq!(vmm.state(), "Running");
    vmm.fake.exit(GuestExit::Reset);
    let start = Instant::now();
    while vmm.fake.script().calls.len() < 2 {
        assert!(start.elapsed() < PATIENCE, "never booted again");
        vmm.get("vmm.ping");
    }
    assert_eq!(vmm.state(), "Running");
    assert_eq!(vmm.fake.script().calls, ["boot", "boot"]);

    // A file that could not be synced has not got better.
    vmm.fake.script().latched = true;
    vmm.fake.exit(GuestExit::Reset);
    while vmm.fake.script().calls.len() < 3 {
        assert!(start.elapsed() < PATIENCE, "never booted a third time");
        vmm.get("vmm.ping");
    }
    assert_eq!(vmm.fake.script().calls[2], "boot latched");

    vmm.fake.script().no_boot = true;
    vmm.fake.exit(GuestExit::Reset);
    let (result, _) = vmm.ended();
    assert_eq!(
        one_line(&result.unwrap_err()),
        "the VM could not reboot: --pmem id=_pmem0: locked by another process"
    );
}

#[test]
fn a_vcpu_that_cannot_go_on_ends_the_vmm_with_an_error() {
    let vmm = Vmm::booted(Fake::new());
    assert_eq!(vmm.state(), "Running");
    vmm.fake
        .exit(GuestExit::Failed("vCPU 0: EFAULT".to_owned()));
    let (result, events) = vmm.ended();
    assert_eq!(
        one_line(&result.unwrap_err()),
        "the guest cannot go on: vCPU 0: EFAULT"
    );
    assert!(events.contains(&"vm failed".to_owned()), "{events:?}");
}

#[test]
fn a_vm_that_does_not_boot_ends_the_vmm_with_the_reason() {
    let fake = Fake::new();
    fake.script().no_boot = true;
    let (result, _) = Vmm::booted(fake).ended();
    assert_eq!(
        one_line(&result.unwrap_err()),
        "the VM could not boot: --pmem id=_pmem0: locked by another process"
    );
}

#[test]
fn a_socket_in_use_is_refused_and_a_left_one_replaced() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("s");
    let socket = ApiSocket::bind(&path).unwrap();
    assert!(matches!(ApiSocket::bind(&path), Err(SocketError::InUse(_))));
    drop(socket);
    assert!(!path.exists());

    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "the left socket");
    drop(ApiSocket::bind(&path).unwrap());

    write(&path, "mine").unwrap();
    assert!(matches!(
        ApiSocket::bind(&path),
        Err(SocketError::InTheWay(_))
    ));
    assert_eq!(read(&path).unwrap(), b"mine");

    let error = ApiSocket::bind(&dir.path().join("no/s")).unwrap_err();
    assert!(
        one_line(&error).ends_with("/no/s: cannot be made: No such file or directory (os error 2)"),
        "{error}"
    );
}
