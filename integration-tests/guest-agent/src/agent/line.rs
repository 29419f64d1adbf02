// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The sending side of the line: one thread writes, so that nobody else waits for a serial
//! port.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use guest_agent::wire::{self, Answer, Event, Failure, FailureKind, FromGuest, Hello, KernelLine};
use nix::sys::termios::tcdrain;

/// Kernel lines are left out while this many records wait; `dmesg` has them all.
const BACKLOG: usize = 2048;

/// How long [`Sender::flush`] waits for a line that nobody reads.
const FLUSH: Duration = Duration::from_secs(5);

enum Out {
    Record(FromGuest),
    Flush(SyncSender<()>),
}

/// Hands records to the writing thread.
#[derive(Clone)]
pub struct Sender {
    out: mpsc::Sender<Out>,
    waiting: Arc<AtomicUsize>,
}

impl Sender {
    /// Starts the writing thread.
    pub fn start(line: File) -> io::Result<Self> {
        let (out, records) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let sender = Self {
            out,
            waiting: Arc::clone(&waiting),
        };
        thread::Builder::new()
            .name("line".to_owned())
            .spawn(move || write(line, &records, &waiting))?;
        Ok(sender)
    }

    fn send(&self, record: FromGuest) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // The thread ends only when the line failed: then there is nobody to tell.
        let _ = self.out.send(Out::Record(record));
    }

    /// Says that the agent is up.
    pub fn hello(&self, driver: &str, warnings: Vec<String>) {
        let read = |path: &str| {
            fs::read_to_string(path)
                .map(|text| text.trim().to_owned())
                .unwrap_or_default()
        };
        self.send(FromGuest::Hello(Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: read("/proc/sys/kernel/osrelease"),
            cmdline: read("/proc/cmdline"),
            driver: driver.to_owned(),
            warnings,
        }));
    }

    /// Says that an order runs.
    pub fn accepted(&self, id: u64) {
        self.send(FromGuest::Accepted { id });
    }

    /// Answers an order.
    pub fn answer(&self, answer: Answer) {
        self.send(FromGuest::Answer(answer));
    }

    /// Tells of an event.
    pub fn event(&self, event: Event) {
        self.send(FromGuest::Event(event));
    }

    /// Forwards a line of the kernel's log, unless too much waits already.
    pub fn kernel(&self, line: KernelLine) {
        if self.waiting.load(Ordering::Relaxed) < BACKLOG {
            self.send(FromGuest::Kernel(line));
        }
    }

    /// Waits, within bounds, until all that was sent has left the machine.
    pub fn flush(&self) {
        let (done, written) = mpsc::sync_channel(1);
        if self.out.send(Out::Flush(done)).is_ok() {
            // A line that takes nothing must not keep the guest from powering off.
            let _ = written.recv_timeout(FLUSH);
        }
    }
}

fn write(mut line: File, records: &Receiver<Out>, waiting: &AtomicUsize) {
    let mut seq = 0;
    for out in records {
        match out {
            Out::Record(record) => {
                waiting.fetch_sub(1, Ordering::Relaxed);
                seq += 1;
                let bytes = wire::encode(seq, &record).or_else(|error| match record {
                    FromGuest::Answer(answer) => wire::encode(seq, &too_long(&answer, &error)),
                    _ => Err(error),
                });
                let Ok(bytes) = bytes else { continue };
                if line.write_all(&bytes).is_err() {
                    return;
                }
            }
            Out::Flush(done) => {
                if line.is_terminal() {
                    // What a terminal cannot send now it never will: nothing to do about it.
                    let _ = tcdrain(&line);
                }
                let _ = done.send(());
            }
        }
    }
}

fn too_long(answer: &Answer, error: &wire::WireError) -> FromGuest {
    FromGuest::Answer(Answer {
        id: answer.id,
        elapsed_us: answer.elapsed_us,
        result: Err(Failure {
            kind: FailureKind::Internal,
            message: error.to_string(),
            errno: None,
        }),
    })
}
