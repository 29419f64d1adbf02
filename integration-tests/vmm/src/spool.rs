// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Writes text to a file that may be slow, on a thread of its own.
//!
//! Events and log lines come from vCPUs, devices and the control loop, some of them
//! caused by the guest at any rate. None of these may wait for whoever reads them: when
//! the reader is too slow, text is dropped, and who pushed it is told.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// How many texts may wait for the writer.
pub const QUEUE: usize = 4096;

/// How long the end of the process waits for a reader that does not read.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// `None` ends the writer.
type Queue = SyncSender<Option<String>>;

/// Takes text.
#[derive(Clone)]
pub struct Spool(Queue);

/// The writer, to be waited for at the end of the process.
pub struct SpoolWriter {
    thread: JoinHandle<()>,
    queue: Queue,
    done: Receiver<()>,
}

impl Spool {
    /// Starts a writer to `file`, on a thread called `name`. `failed` is told why when
    /// it cannot write; that ends it.
    ///
    /// # Errors
    /// No thread.
    pub fn start(
        name: &str,
        mut file: impl Write + Send + 'static,
        failed: impl FnOnce(io::Error) + Send + 'static,
    ) -> io::Result<(Self, SpoolWriter)> {
        let (queue, texts) = sync_channel::<Option<String>>(QUEUE);
        let (end, done) = sync_channel(1);
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            while let Ok(Some(text)) = texts.recv() {
                if let Err(error) = file.write_all(text.as_bytes()) {
                    failed(error);
                    break;
                }
            }
            end.send(()).ok();
        })?;
        let writer = SpoolWriter {
            thread,
            queue: queue.clone(),
            done,
        };
        Ok((Self(queue), writer))
    }

    /// Hands `text` to the writer, never waiting. False if it was dropped because too much
    /// waits already. A writer that has ended drops everything: it has said why.
    pub fn push(&self, text: String) -> bool {
        !matches!(self.0.try_send(Some(text)), Err(TrySendError::Full(_)))
    }
}

impl SpoolWriter {
    /// Waits until what was pushed is written, but not for a reader that does not read:
    /// then false.
    pub fn finish(self) -> bool {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(None) {
            return false;
        }
        if self.done.recv_timeout(LAST_WORDS) == Err(RecvTimeoutError::Timeout) {
            return false;
        }
        self.thread.join().is_ok()
    }
}
