// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Runs a program with its output captured and its time bounded.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use guest_agent::wire::ToolResult;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::pipe2;

use crate::agent::reap;
use crate::agent::stop::{Stop, wait};

/// The last output that is kept.
const KEPT: usize = 256 << 10;

/// How long a killed program may take to be gone. One in an uninterruptible wait is left
/// behind: the order must end.
const GRACE: Duration = Duration::from_secs(5);

/// Runs `argv`. Standard output and error are one stream, in order.
///
/// # Errors
///
/// The program cannot be started.
pub fn run(argv: &[String], stdin: &str, timeout_ms: u64, stop: &Stop) -> io::Result<ToolResult> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "argv is empty"));
    };
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(if stdin.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stdout(Stdio::from(write.try_clone()?))
        .stderr(Stdio::from(write))
        .process_group(0);
    let child = reap::spawn(&mut command)?;
    // The command still holds the pipe's writing ends.
    drop(command);
    let mut running = Running {
        child,
        output: Output::new(read)?,
        result: ToolResult::default(),
    };
    running.feed(stdin);
    let result = running.wait_for_end(timeout_ms, stop);
    reap::disown(&running.child);
    result?;
    running.result.cut = running.output.cut;
    running.result.output = String::from_utf8_lossy(&running.output.bytes).into_owned();
    Ok(running.result)
}

struct Running {
    child: Child,
    output: Output,
    result: ToolResult,
}

impl Running {
    fn feed(&mut self, text: &str) {
        if let Some(mut stdin) = self.child.stdin.take() {
            let text = text.to_owned();
            // A program that does not read it must not hold up the others.
            thread::spawn(move || {
                // It may end without reading: that is its affair.
                let _ = stdin.write_all(text.as_bytes());
            });
        }
    }

    fn wait_for_end(&mut self, timeout_ms: u64, stop: &Stop) -> io::Result<()> {
        let pidfd = pidfd(&self.child)?;
        let mut deadline =
            (timeout_ms > 0).then(|| Instant::now() + Duration::from_millis(timeout_ms));
        let mut killed = false;
        loop {
            let output = self.output.open.then_some(self.output.pipe.as_fd());
            let stop_fd = (!killed).then_some(stop.fd());
            // A descriptor that is of no interest any more is replaced by the one that always is.
            let pid = pidfd.as_fd();
            let [ended, more, stopped] = wait(
                [pid, output.unwrap_or(pid), stop_fd.unwrap_or(pid)],
                deadline,
            )?;
            if more && self.output.open {
                self.output.read_available()?;
            }
            if ended {
                let status = self.child.wait()?;
                self.result.rc = status.code();
                self.result.signal = status.signal();
                // What it wrote is in the pipe; a child of its own may hold the pipe open for
                // ever and is not waited for.
                return self.output.read_available();
            }
            let timed_out = deadline.is_some_and(|deadline| deadline <= Instant::now());
            if killed && timed_out {
                return Ok(());
            }
            if timed_out || (stopped && !killed) {
                self.result.timed_out = timed_out;
                self.result.stopped = !timed_out;
                killed = true;
                deadline = Some(Instant::now() + GRACE);
                if let Some(group) = reap::group(&self.child) {
                    // A group that is gone needs no signal.
                    let _ = killpg(group, Signal::SIGKILL);
                }
            }
        }
    }
}

fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    // SAFETY: pidfd_open takes two numbers and no pointer.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just made this descriptor for us; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The end of what a program wrote.
struct Output {
    pipe: File,
    open: bool,
    bytes: Vec<u8>,
    cut: u64,
}

impl Output {
    fn new(pipe: OwnedFd) -> io::Result<Self> {
        let pipe = File::from(pipe);
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self {
            pipe,
            open: true,
            bytes: Vec::new(),
            cut: 0,
        })
    }

    fn read_available(&mut self) -> io::Result<()> {
        let mut piece = [0; 8192];
        while self.open {
            match self.pipe.read(&mut piece) {
                Ok(0) => self.open = false,
                Ok(count) => {
                    self.bytes.extend_from_slice(&piece[..count]);
                    let over = self.bytes.len().saturating_sub(KEPT);
                    self.bytes.drain(..over);
                    self.cut += u64::try_from(over).unwrap_or(u64::MAX);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
