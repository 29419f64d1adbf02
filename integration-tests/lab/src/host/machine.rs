// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The lab machine's QEMU process: started with fresh disks, and always ended.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::host::accel::Accel;
use crate::host::keeper::{self, RunDir};
use crate::job::{
    RESULTS_PORT, ROOT_SERIAL, Record, SCRATCH_MIN_BYTES, SCRATCH_SERIAL, SHARE_SERIAL,
};

/// Memory of the lab in MiB: guests of 512 MiB, their snapshots in the page cache, QEMU.
const MEMORY_MIB: u32 = 3072;

/// How long a lab may stand still because its emulator has forgotten an interrupt.
const NUDGE: Duration = Duration::from_secs(1);

/// What a lab is started with.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// How it runs.
    pub accel: Accel,
    /// Its kernel.
    pub kernel: &'a Path,
    /// Its initramfs, `/init` included.
    pub initrd: &'a Path,
    /// Its root image; changes to it are thrown away.
    pub root: &'a Path,
    /// The share image.
    pub share: &'a Path,
}

/// What the machine's kernel and process 1 printed.
pub struct Console(pub String);

/// A running lab machine. Dropped, it is killed and its disks are gone.
pub struct Machine {
    child: Child,
    records: Option<Receiver<Result<Record>>>,
    port: Option<UnixStream>,
    dir: RunDir,
}

/// What [`Machine::next`] saw.
pub enum Next {
    /// A record.
    Record(Box<Record>),
    /// The machine has closed its port: it is off or dead.
    Ended,
    /// Nothing until then.
    Timeout,
}

impl Machine {
    /// Starts the lab, with `dir` for its private files.
    pub fn start(start: &Start, dir: RunDir) -> Result<Self> {
        let scratch = dir.path().join("scratch.img");
        // Sparse: what a scenario does not write costs nothing.
        File::create(&scratch)?.set_len(SCRATCH_MIN_BYTES)?;
        let (ours, theirs) = UnixStream::pair()?;

        let mut command = command(start.accel, start.kernel, start.initrd, "", dir.path());
        command.args([
            "-m",
            &MEMORY_MIB.to_string(),
            "-device",
            "virtio-serial-pci",
        ]);
        command
            .arg("-chardev")
            .arg(format!("socket,id=results,fd={}", theirs.as_raw_fd()));
        command.arg("-device").arg(format!(
            "virtserialport,chardev=results,name={RESULTS_PORT}"
        ));
        for (serial, image, options) in [
            (ROOT_SERIAL, start.root, "snapshot=on"),
            (SHARE_SERIAL, start.share, "readonly=on"),
            (SCRATCH_SERIAL, scratch.as_path(), "discard=unmap"),
        ] {
            let path = path_option(image)?;
            command.arg("-drive").arg(format!(
                "if=none,id={serial},format=raw,cache=unsafe,{options},file={path}"
            ));
            command
                .arg("-device")
                .arg(format!("virtio-blk-pci,drive={serial},serial={serial}"));
        }
        let child = spawn(command, dir.path(), Some(&theirs))?;
        drop(theirs);
        let records = read_records(ours.try_clone()?);
        nudge(ours.try_clone()?);
        Ok(Self {
            child,
            records: Some(records),
            port: Some(ours),
            dir,
        })
    }

    /// Starts a machine with a kernel, an initramfs and nothing else, `word` on its command line.
    pub fn probe(
        accel: Accel,
        kernel: &Path,
        initrd: &Path,
        runs: &Path,
        word: &str,
    ) -> Result<Self> {
        let dir = keeper::run_dir(runs)?;
        let mut command = command(accel, kernel, initrd, word, dir.path());
        command.args(["-m", "512"]);
        let child = spawn(command, dir.path(), None)?;
        Ok(Self {
            child,
            records: None,
            port: None,
            dir,
        })
    }

    /// QEMU's process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next record, waiting until `deadline` at most.
    pub fn next(&self, deadline: Instant) -> Result<Next> {
        let Some(records) = &self.records else {
            return Ok(Next::Ended);
        };
        match records.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(record) => Ok(Next::Record(Box::new(record?))),
            Err(RecvTimeoutError::Timeout) => Ok(Next::Timeout),
            Err(RecvTimeoutError::Disconnected) => Ok(Next::Ended),
        }
    }

    /// Waits for the machine to power itself off; kills it after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                self.kill();
                bail!("the machine was not off after {} s", limit.as_secs());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What is on the console so far, QEMU's own complaints at its end.
    pub fn console(&self) -> Console {
        let read = |name: &str| {
            fs::read(self.dir.path().join(name))
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .unwrap_or_default()
        };
        Console(read("console.log") + &read("qemu.log"))
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        keeper::forget(self.child.id());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
        if let Some(port) = &self.port {
            // Ends the reading thread.
            let _ = port.shutdown(Shutdown::Both);
        }
    }
}

fn command(accel: Accel, kernel: &Path, initrd: &Path, word: &str, dir: &Path) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    let cmdline = format!(
        "console=ttyS0 panic=-1 quiet mitigations=off tsc=reliable no_timer_check \
         nowatchdog random.trust_cpu=on {word}"
    );
    command
        .args([
            "-machine",
            "q35",
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
        ])
        .args(accel.args())
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .arg("-append")
        .arg(cmdline)
        .arg("-serial")
        .arg(format!("file:{}", dir.join("console.log").display()));
    command
}

fn spawn(mut command: Command, dir: &Path, port: Option<&UnixStream>) -> Result<Child> {
    let log = File::create(dir.join("qemu.log"))?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    if let Some(port) = port {
        let fd = port.as_raw_fd();
        let inherit = move || {
            // SAFETY: the caller keeps the descriptor open until the child has been started.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
            Ok(())
        };
        // SAFETY: fcntl is async-signal-safe, and nothing is allocated.
        unsafe { command.pre_exec(inherit) };
    }
    keeper::spawn(command).context("cannot start qemu-system-x86_64")
}

/// QEMU's option syntax doubles commas.
fn path_option(path: &Path) -> Result<String> {
    path.to_str()
        .map(|path| path.replace(',', ",,"))
        .ok_or_else(|| anyhow!("{}: not UTF-8, which QEMU's options need", path.display()))
}

/// Interrupts the lab every second, until its port is closed.
///
/// QEMU (7.2, TCG) changes a processor's pending interrupts on its own thread without the lock, when an
/// SVM guest is entered or left; one that is raised by another thread just then is forgotten. If it was the
/// timer's and the processor is idle, the machine stands still for ever. The next interrupt of any
/// device delivers the forgotten one too.
fn nudge(mut port: UnixStream) {
    thread::spawn(move || {
        while port.write_all(b"\n").is_ok() {
            thread::sleep(NUDGE);
        }
    });
}

fn read_records(port: UnixStream) -> Receiver<Result<Record>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(port).lines() {
            let Ok(line) = line else { return };
            let record = serde_json::from_str(&line)
                .with_context(|| format!("the lab sent a line that is no record: {line:?}"));
            if send.send(record).is_err() {
                return;
            }
        }
    });
    receive
}
