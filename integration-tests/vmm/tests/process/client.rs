// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A VMM in a process of its own, and its API's client.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions, read, read_to_string, write};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::{TempDir, tempdir};

/// How long anything may take: the host may interpret its guests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `done`, or fails with `what`.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Runs the VMM until it ends.
pub fn vmm<I: IntoIterator<Item: AsRef<OsStr>>>(args: I) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vmm"))
        .args(args)
        .output()
        .unwrap()
}

/// Whether this host can run the tests that need a guest; says so if not.
pub fn has_kvm() -> bool {
    let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    if let Err(error) = &kvm {
        eprintln!("not run: /dev/kvm: {error}");
    }
    kvm.is_ok()
}

/// A place for files.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).into_os_string().into_string().unwrap()
    }

    pub fn url(&self, name: &str) -> String {
        format!("file://{}", self.text(name))
    }

    /// A file of this size, all of it allocated.
    pub fn file(&self, name: &str, size: usize) -> String {
        write(self.path(name), vec![0; size]).unwrap();
        self.text(name)
    }
}

/// A VMM that runs. Dropping it kills it.
pub struct Vmm {
    child: Child,
    socket: PathBuf,
    stderr: PathBuf,
}

impl Vmm {
    /// Starts a VMM with an API socket in `place` and waits until it answers.
    pub fn start(place: &Place, name: &str, args: &[&str]) -> Self {
        let stderr = place.path(&format!("{name}.stderr"));
        let file = File::create(&stderr).unwrap();
        Self::spawn(place, name, args, file.into(), stderr)
    }

    /// The same with a standard error that nobody reads.
    pub fn start_unheard(place: &Place, name: &str, args: &[&str]) -> Self {
        Self::spawn(place, name, args, Stdio::piped(), place.path("nothing"))
    }

    fn spawn(place: &Place, name: &str, args: &[&str], to: Stdio, stderr: PathBuf) -> Self {
        let socket = place.path(&format!("{name}.api"));
        let child = Command::new(env!("CARGO_BIN_EXE_vmm"))
            .args(args)
            .arg("--api-socket")
            .arg(&socket)
            .stdin(Stdio::null())
            .stderr(to)
            .spawn()
            .unwrap();
        let mut vmm = Self {
            child,
            socket,
            stderr,
        };
        wait_for("the API answers", || {
            if let Some(status) = vmm.child.try_wait().unwrap() {
                panic!("the VMM ended with {status}: {}", vmm.stderr());
            }
            vmm.try_ask("GET", "vmm.ping", "").is_some()
        });
        vmm
    }

    pub fn stderr(&self) -> String {
        read_to_string(&self.stderr).unwrap_or_default()
    }

    fn try_ask(&self, method: &str, name: &str, body: &str) -> Option<(u16, String)> {
        let mut stream = UnixStream::connect(&self.socket).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let request =
            format!("{method} /api/v1/{name} HTTP/1.1\r\nConnection: close\r\n{length}\r\n{body}");
        stream.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    pub fn ask(&self, method: &str, name: &str, body: &str) -> (u16, String) {
        self.try_ask(method, name, body).unwrap()
    }

    /// A request that has to succeed without an answer.
    pub fn put(&self, name: &str, body: &str) {
        let (status, answer) = self.ask("PUT", name, body);
        assert_eq!(status, 204, "{name}: {answer}");
    }

    pub fn snapshot(&self, url: &str) {
        self.put("vm.snapshot", &format!(r#"{{"destination_url":"{url}"}}"#));
    }

    pub fn state(&self) -> String {
        let (_, info) = self.ask("GET", "vm.info", "");
        let info: Value = serde_json::from_str(&info).unwrap();
        info["state"].as_str().unwrap().to_owned()
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Waits for the end.
    pub fn end(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the VMM ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(!self.socket.exists(), "the socket is left");
        status.unwrap()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The bytes of a file that is there.
pub fn bytes(path: &Path) -> Vec<u8> {
    read(path).unwrap_or_default()
}
