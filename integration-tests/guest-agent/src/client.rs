// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Sends orders from outside and waits for their answers.
//!
//! The line may lose or damage bytes at any moment: the guest is restored from a snapshot,
//! the socket is connected anew, the kernel prints in the middle of a record. So an order is
//! sent again and again under its id until it is answered; the guest runs it once.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::random;
use crate::wire::{
    self, Answer, Decoder, Event, Failure, FromGuest, Hello, Item, KernelLine, Order, Outcome,
    Step, WireError,
};

/// How often an unanswered order is sent again, unless [`Client::resend_every`] says otherwise.
const RESEND: Duration = Duration::from_secs(3);

/// At most this many things that nobody waited for are kept; the oldest go first.
const KEPT: usize = 65_536;

/// A byte stream to the guest whose reads come back.
///
/// A read must return within a moment when nothing comes, with
/// [`io::ErrorKind::WouldBlock`] or [`io::ErrorKind::TimedOut`]: deadlines depend on it.
pub trait Line: Read + Write {
    /// Makes reads come back after `time` at most.
    ///
    /// # Errors
    ///
    /// The stream refuses.
    fn read_within(&mut self, time: Duration) -> io::Result<()>;
}

impl Line for UnixStream {
    fn read_within(&mut self, time: Duration) -> io::Result<()> {
        self.set_nonblocking(false)?;
        self.set_read_timeout(Some(time.max(Duration::from_millis(1))))
    }
}

/// Why an order got no outcome.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The line failed or was closed. Connect again with [`Client::reconnect`] and
    /// [`Client::wait`] for the same id.
    #[error("the line to the guest failed: {0}")]
    Line(#[from] io::Error),
    /// No answer in time. The order may still run: [`Client::wait`] for it again.
    #[error("the guest did not answer order {id} within {after:?}; last words: {last}")]
    Timeout {
        /// The order.
        id: u64,
        /// How long was waited.
        after: Duration,
        /// The last text or kernel line that came.
        last: String,
    },
    /// The guest could not carry it out.
    #[error("the guest: {0}")]
    Guest(#[from] Failure),
    /// The agent gave up.
    #[error("the guest's agent gave up: {0}")]
    Fatal(String),
    /// The order has no JSON form.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Something that came without being an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// The agent is up: after a boot, not after a restore.
    Hello(Hello),
    /// An event.
    Event(Event),
    /// A line of the kernel's log.
    Kernel(KernelLine),
    /// Text outside of any record.
    Text(String),
    /// A record that was damaged, or records that are missing by their sequence numbers.
    Lost(String),
}

/// The outside's end of the line.
#[derive(Debug)]
pub struct Client<L> {
    line: L,
    decoder: Decoder<FromGuest>,
    sent: u64,
    next_id: u64,
    last_seq: u64,
    last_words: String,
    resend: Duration,
    orders: HashMap<u64, Order>,
    answers: HashMap<u64, Answer>,
    heard: VecDeque<Heard>,
    fatal: Option<String>,
}

impl<L: Line> Client<L> {
    /// Takes a connected line. Order ids start at a random place, so that two clients of one
    /// guest do not meet.
    pub fn new(line: L) -> Self {
        // 52 bits, so that any JSON reader keeps them exact; the counter has the lower 20.
        let start = random::number() & 0xf_ffff_fff0_0000;
        Self {
            line,
            decoder: Decoder::new(),
            sent: 0,
            next_id: start | 1,
            last_seq: 0,
            last_words: String::new(),
            resend: RESEND,
            orders: HashMap::new(),
            answers: HashMap::new(),
            heard: VecDeque::new(),
            fatal: None,
        }
    }

    /// Sets how often an unanswered order is sent again.
    pub fn resend_every(&mut self, time: Duration) {
        self.resend = time;
    }

    /// Goes on over another line: after a restore, or when the line failed. Orders without an
    /// answer keep their ids and are sent again when they are waited for.
    pub fn reconnect(&mut self, line: L) {
        let rest = self.decoder.finish();
        self.take(rest);
        self.line = line;
        // A restored guest counts on from its snapshot.
        self.last_seq = 0;
        self.fatal = None;
    }

    /// Sends an order without waiting, and returns its id.
    ///
    /// # Errors
    ///
    /// The order has no JSON form. A line that does not take it is not an error yet:
    /// [`Client::wait`] sends it again.
    pub fn send(&mut self, step: Step) -> Result<u64, ClientError> {
        let id = self.next_id;
        self.next_id += 1;
        self.orders.insert(id, Order { id, step });
        match self.transmit(id) {
            Ok(()) | Err(ClientError::Line(_)) => Ok(id),
            Err(error) => {
                self.orders.remove(&id);
                Err(error)
            }
        }
    }

    /// Waits for the answer to an order that was sent.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]. After [`ClientError::Timeout`] and [`ClientError::Line`] the order
    /// can be waited for again.
    pub fn wait(&mut self, id: u64, within: Duration) -> Result<Outcome, ClientError> {
        let began = Instant::now();
        let mut last_sent = began;
        // After a reconnection the guest may never have seen it.
        self.listen(Duration::ZERO)?;
        if !self.answers.contains_key(&id) {
            self.transmit(id)?;
        }
        loop {
            if let Some(answer) = self.answers.remove(&id) {
                self.orders.remove(&id);
                return Ok(answer.result?);
            }
            if let Some(message) = &self.fatal {
                return Err(ClientError::Fatal(message.clone()));
            }
            let waited = began.elapsed();
            if waited >= within {
                return Err(ClientError::Timeout {
                    id,
                    after: within,
                    last: self.last_words.clone(),
                });
            }
            if last_sent.elapsed() >= self.resend {
                self.transmit(id)?;
                last_sent = Instant::now();
            }
            let until_resend = self.resend.saturating_sub(last_sent.elapsed());
            self.listen(until_resend.min(within - waited))?;
        }
    }

    /// Takes the answer to an order if it has come; sends nothing.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]. After [`ClientError::Line`] the order can be waited for again.
    pub fn answered(&mut self, id: u64) -> Result<Option<Outcome>, ClientError> {
        self.listen(Duration::ZERO)?;
        let Some(answer) = self.answers.remove(&id) else {
            return Ok(None);
        };
        self.orders.remove(&id);
        Ok(Some(answer.result?))
    }

    /// Sends an order and waits for its answer.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn run(&mut self, step: Step, within: Duration) -> Result<Outcome, ClientError> {
        let id = self.send(step)?;
        self.wait(id, within)
    }

    /// Waits until the guest's agent answers, however long ago it came up.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn wait_ready(&mut self, within: Duration) -> Result<(), ClientError> {
        self.run(Step::Status, within).map(drop)
    }

    /// Takes what came without being an answer, oldest first.
    pub fn heard(&mut self) -> impl Iterator<Item = Heard> + '_ {
        self.heard.drain(..)
    }

    /// Waits for up to `time` for anything, and takes it in: answers, events, text.
    ///
    /// # Errors
    ///
    /// [`ClientError::Line`].
    pub fn listen(&mut self, time: Duration) -> Result<(), ClientError> {
        let mut bytes = [0; 16 << 10];
        self.line.read_within(time.max(Duration::from_millis(1)))?;
        match self.line.read(&mut bytes) {
            Ok(0) => {
                let rest = self.decoder.finish();
                self.take(rest);
                Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
            }
            Ok(count) => {
                let items = self.decoder.push(&bytes[..count]);
                self.take(items);
                Ok(())
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::TimedOut
                | io::ErrorKind::Interrupted => Ok(()),
                _ => Err(error.into()),
            },
        }
    }

    fn transmit(&mut self, id: u64) -> Result<(), ClientError> {
        let Some(order) = self.orders.get(&id) else {
            let what = format!("order {id} was not sent by this client, or is answered");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what).into());
        };
        self.sent += 1;
        let bytes = wire::encode(self.sent, order)?;
        self.line.write_all(&bytes)?;
        self.line.flush()?;
        Ok(())
    }

    fn take(&mut self, items: Vec<Item<FromGuest>>) {
        for item in items {
            match item {
                Item::Record { seq, body } => {
                    // A lower number is a guest that was booted or restored.
                    if self.last_seq != 0 && seq > self.last_seq + 1 {
                        let missing = seq - self.last_seq - 1;
                        self.keep(Heard::Lost(format!("{missing} records before {seq}")));
                    }
                    self.last_seq = seq;
                    self.take_record(body);
                }
                Item::Text(text) => {
                    self.last_words.clone_from(&text);
                    self.keep(Heard::Text(text));
                }
                Item::Damaged { why, text } => {
                    self.keep(Heard::Lost(format!("{why}: {text}")));
                }
            }
        }
    }

    fn take_record(&mut self, body: FromGuest) {
        match body {
            FromGuest::Hello(hello) => self.keep(Heard::Hello(hello)),
            FromGuest::Accepted { .. } => {}
            FromGuest::Answer(answer) => {
                // An answer from memory to an order that is done with is not news.
                if self.orders.contains_key(&answer.id) {
                    self.answers.insert(answer.id, answer);
                }
            }
            FromGuest::Event(event) => {
                if let Event::Fatal { message } = &event {
                    self.fatal = Some(message.clone());
                }
                self.keep(Heard::Event(event));
            }
            FromGuest::Kernel(line) => {
                self.last_words.clone_from(&line.text);
                self.keep(Heard::Kernel(line));
            }
        }
    }

    fn keep(&mut self, heard: Heard) {
        if self.heard.len() == KEPT {
            self.heard.pop_front();
        }
        self.heard.push_back(heard);
    }
}
