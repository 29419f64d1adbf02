// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The host's end of the serial port: a terminal, a file or a socket, served by a thread
//! of its own, so that no vCPU waits for a slow reader.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::serial::{SerialPort, Wire};
use crate::config::{ConsoleOutputMode, SerialConfig};
use crate::vm::VmError;

/// How much output waits for a slow or absent reader; then the oldest is lost.
const BACKLOG: usize = 1 << 20;
/// How much input waits for the guest.
const INPUT_CHUNK: usize = 4096;
/// How long the end waits for the last output to be written.
const END_PATIENCE: Duration = Duration::from_millis(500);

const TOKEN_WAKE: u64 = 0;
const TOKEN_LISTENER: u64 = 1;
const TOKEN_PEER: u64 = 2;

/// What the serial port and the console's thread share.
struct Shared {
    output: Mutex<VecDeque<u8>>,
    wake: EventFd,
    ending: AtomicBool,
    /// False for a console that drops everything.
    keeps: bool,
}

impl Shared {
    fn output(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        if let Err(e) = self.wake.write(1)
            && e.kind() != io::ErrorKind::WouldBlock
        {
            log::error!("serial console: cannot wake its thread: {e}");
        }
    }
}

impl Wire for Shared {
    fn sent(&self, bytes: &[u8]) {
        if !self.keeps {
            return;
        }
        let mut output = self.output();
        let idle = output.is_empty();
        let excess = (output.len() + bytes.len()).saturating_sub(BACKLOG);
        let excess = excess.min(output.len());
        output.drain(..excess);
        output.extend(bytes);
        drop(output);
        if idle {
            self.wake();
        }
    }

    fn drained(&self) {
        self.wake();
    }
}

/// The far end.
enum Far {
    Nothing,
    File(File),
    Terminal,
    Listener(UnixListener, Option<UnixStream>),
}

/// A console. Dropping it writes what output is left, if that is quick.
pub struct Console {
    shared: Arc<Shared>,
    far: Option<Far>,
    ended: Option<Receiver<()>>,
}

impl Console {
    /// Opens the far end. `append` keeps what a file holds: a restored guest goes on.
    ///
    /// # Errors
    /// The file or socket cannot be opened.
    pub fn open(config: &SerialConfig, append: bool) -> Result<Self, VmError> {
        let far = match config.mode {
            ConsoleOutputMode::Off | ConsoleOutputMode::Null => Far::Nothing,
            ConsoleOutputMode::Tty => Far::Terminal,
            ConsoleOutputMode::File => {
                let path = config.file.as_deref().unwrap_or(Path::new(""));
                let file = OpenOptions::new()
                    .create(true)
                    .write(true)
                    .append(append)
                    .truncate(!append)
                    .open(path);
                Far::File(file.map_err(|source| VmError::Serial {
                    option: "file",
                    path: path.into(),
                    source,
                })?)
            }
            ConsoleOutputMode::Socket => {
                let path = config.socket.as_deref().unwrap_or(Path::new(""));
                let listener = listen(path).map_err(|source| VmError::Serial {
                    option: "socket",
                    path: path.into(),
                    source,
                })?;
                Far::Listener(listener, None)
            }
        };
        let shared = Arc::new(Shared {
            output: Mutex::new(VecDeque::new()),
            wake: EventFd::new(EFD_NONBLOCK)
                .map_err(|e| VmError::Host("cannot create an event descriptor", e))?,
            ending: AtomicBool::new(false),
            keeps: !matches!(far, Far::Nothing),
        });
        Ok(Self {
            shared,
            far: Some(far),
            ended: None,
        })
    }

    /// The end to plug the serial port into.
    pub fn wire(&self) -> Arc<dyn Wire> {
        self.shared.clone()
    }

    /// Starts to carry bytes.
    ///
    /// # Errors
    /// No thread or descriptor left.
    pub fn start(&mut self, port: &Arc<SerialPort>) -> Result<(), VmError> {
        let Some(far) = self.far.take() else {
            return Ok(());
        };
        if !self.shared.keeps {
            return Ok(());
        }
        let carrier = Carrier::new(self.shared.clone(), port.clone(), far)
            .map_err(|e| VmError::Host("cannot watch the serial console", e))?;
        let (ended, receiver) = channel();
        thread::Builder::new()
            .name("serial".into())
            .spawn(move || carrier.run(&ended))
            .map_err(|e| VmError::Host("cannot start the serial console's thread", e))?;
        self.ended = Some(receiver);
        Ok(())
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.take() {
            self.shared.ending.store(true, Ordering::SeqCst);
            self.shared.wake();
            if ended.recv_timeout(END_PATIENCE).is_err() {
                log::warn!("serial console: its last output is still being written");
            }
        }
    }
}

/// Listens at `path`; a socket nobody listens at any more is replaced.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            let abandoned = fs::symlink_metadata(path)?.file_type().is_socket()
                && UnixStream::connect(path)
                    .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
            if !abandoned {
                return Err(e);
            }
            fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        result => result?,
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The thread's side.
struct Carrier {
    shared: Arc<Shared>,
    port: Arc<SerialPort>,
    far: Far,
    epoll: Epoll,
    /// Output on its way to the peer.
    pending: VecDeque<u8>,
    /// Input the guest had no room for yet.
    input: VecDeque<u8>,
    /// What the peer's descriptor is watched for now.
    watched: Option<(RawFd, EventSet)>,
    /// The peer takes no output right now.
    stuck: bool,
}

impl Carrier {
    fn new(shared: Arc<Shared>, port: Arc<SerialPort>, far: Far) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.ctl(
            ControlOperation::Add,
            shared.wake.as_raw_fd(),
            EpollEvent::new(EventSet::IN, TOKEN_WAKE),
        )?;
        if let Far::Listener(listener, _) = &far {
            epoll.ctl(
                ControlOperation::Add,
                listener.as_raw_fd(),
                EpollEvent::new(EventSet::IN, TOKEN_LISTENER),
            )?;
        }
        Ok(Self {
            shared,
            port,
            far,
            epoll,
            pending: VecDeque::new(),
            input: VecDeque::new(),
            watched: None,
            stuck: false,
        })
    }

    fn run(mut self, ended: &Sender<()>) {
        let mut peer_open = matches!(self.far, Far::Terminal);
        loop {
            let ending = self.shared.ending.load(Ordering::SeqCst);
            self.deliver_input();
            if !self.write_output() {
                self.hang_up();
                peer_open = false;
            }
            if ending {
                break;
            }
            if let Err(e) = self.watch(peer_open) {
                log::warn!("serial console: no input: {e}");
                peer_open = false;
            }
            let mut events = [EpollEvent::default(); 4];
            let count = match self.epoll.wait(-1, &mut events) {
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => 0,
                Err(e) => {
                    log::error!("serial console: epoll failed: {e}");
                    break;
                }
            };
            for event in &events[..count] {
                match event.data() {
                    TOKEN_WAKE => {
                        self.shared.wake.read().ok();
                    }
                    TOKEN_LISTENER => {
                        if self.accept() {
                            peer_open = true;
                        }
                    }
                    _ => {
                        self.stuck = false;
                        let readable = EventSet::IN | EventSet::HANG_UP | EventSet::ERROR;
                        if event.event_set().intersects(readable) && !self.read_input() {
                            self.hang_up();
                            peer_open = false;
                        }
                    }
                }
            }
        }
        ended.send(()).ok();
    }

    /// A new client replaces the old one: that may be a connection whose other end is
    /// long gone.
    fn accept(&mut self) -> bool {
        let Far::Listener(listener, _) = &self.far else {
            return false;
        };
        let accepted = listener
            .accept()
            .and_then(|(stream, _)| stream.set_nonblocking(true).map(|()| stream));
        let stream = match accepted {
            Ok(stream) => stream,
            Err(e) => {
                log::warn!("serial console: a client could not connect: {e}");
                return false;
            }
        };
        self.hang_up();
        if let Far::Listener(_, peer) = &mut self.far {
            *peer = Some(stream);
        }
        true
    }

    /// Forgets the client.
    fn hang_up(&mut self) {
        if let Some((fd, _)) = self.watched.take() {
            self.epoll
                .ctl(ControlOperation::Delete, fd, EpollEvent::default())
                .ok();
        }
        self.stuck = false;
        if let Far::Listener(_, peer) = &mut self.far {
            *peer = None;
        }
    }

    /// Watches the peer for input if there is room for it, for output if it was stuck.
    fn watch(&mut self, peer_open: bool) -> io::Result<()> {
        let fd = match &self.far {
            Far::Terminal if peer_open => io::stdin().as_raw_fd(),
            Far::Listener(_, Some(peer)) => peer.as_raw_fd(),
            _ => return Ok(()),
        };
        let mut wanted = EventSet::empty();
        if self.input.is_empty() {
            wanted |= EventSet::IN;
        }
        if self.stuck {
            wanted |= EventSet::OUT;
        }
        let operation = match self.watched {
            Some((_, now)) if now == wanted => return Ok(()),
            Some(_) => ControlOperation::Modify,
            None => ControlOperation::Add,
        };
        self.epoll
            .ctl(operation, fd, EpollEvent::new(wanted, TOKEN_PEER))?;
        self.watched = Some((fd, wanted));
        Ok(())
    }

    /// Reads from the peer. False: it has closed.
    fn read_input(&mut self) -> bool {
        let mut chunk = [0; INPUT_CHUNK];
        let read = match &mut self.far {
            Far::Terminal => io::stdin().lock().read(&mut chunk),
            Far::Listener(_, Some(peer)) => peer.read(&mut chunk),
            _ => return true,
        };
        match read {
            Ok(0) => false,
            Ok(count) => {
                self.input.extend(&chunk[..count]);
                true
            }
            Err(e) => matches!(
                e.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ),
        }
    }

    /// Gives the guest what it has room for.
    fn deliver_input(&mut self) {
        while !self.input.is_empty() {
            let taken = self.port.receive(self.input.make_contiguous());
            if taken == 0 {
                return;
            }
            self.input.drain(..taken);
        }
    }

    /// Writes what output there is. False: the peer is gone; what it did not take is kept
    /// for the next one.
    fn write_output(&mut self) -> bool {
        while !self.stuck {
            if self.pending.is_empty() {
                if matches!(self.far, Far::Listener(_, None)) {
                    return true;
                }
                mem::swap(&mut self.pending, &mut *self.shared.output());
            }
            let chunk = self.pending.make_contiguous();
            if chunk.is_empty() {
                return true;
            }
            let written = match &mut self.far {
                Far::Nothing => Ok(chunk.len()),
                Far::File(file) => file.write(chunk),
                Far::Terminal => {
                    let mut out = io::stdout().lock();
                    out.write(chunk)
                        .and_then(|count| out.flush().map(|()| count))
                }
                Far::Listener(_, Some(peer)) => peer.write(chunk),
                Far::Listener(_, None) => return true,
            };
            match written {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(e) => match e.kind() {
                    io::ErrorKind::WouldBlock => self.stuck = true,
                    io::ErrorKind::Interrupted => {}
                    _ if matches!(self.far, Far::Listener(..)) => return false,
                    _ => {
                        log::warn!("serial console: output is lost: {e}");
                        self.far = Far::Nothing;
                    }
                },
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;
    use std::io::BufReader;

    use tempfile::tempdir;

    use super::super::irq::IrqLine;
    use super::*;

    fn socket(path: &Path) -> SerialConfig {
        SerialConfig {
            file: None,
            mode: ConsoleOutputMode::Socket,
            socket: Some(path.into()),
        }
    }

    fn plug(console: &mut Console) -> Arc<SerialPort> {
        let port = SerialPort::new(IrqLine::loose(), console.wire(), None).unwrap();
        let port = Arc::new(port);
        console.start(&port).unwrap();
        port
    }

    fn say(port: &SerialPort, text: &str) {
        for byte in text.bytes() {
            port.write(0, byte);
        }
    }

    fn line(reader: &mut impl BufRead) -> String {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn a_client_gets_what_was_said_before_it_came_and_can_answer() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("s");
        let mut console = Console::open(&socket(&path), false).unwrap();
        let port = plug(&mut console);
        say(&port, "early\n");
        let mut client = UnixStream::connect(&path).unwrap();
        let mut reader = BufReader::new(client.try_clone().unwrap());
        assert_eq!(line(&mut reader), "early\n");
        // More than the port's FIFO: the rest comes when the guest has read.
        let answer = [b'a'; 300];
        client.write_all(&answer).unwrap();
        let mut read = 0;
        while read < answer.len() {
            if port.read(5) & 1 != 0 {
                assert_eq!(port.read(0), b'a');
                read += 1;
            } else {
                thread::yield_now();
            }
        }
    }

    #[test]
    fn a_second_client_replaces_the_first() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("s");
        let mut console = Console::open(&socket(&path), false).unwrap();
        let port = plug(&mut console);
        let mut first = BufReader::new(UnixStream::connect(&path).unwrap());
        say(&port, "one\n");
        assert_eq!(line(&mut first), "one\n");
        let mut second = BufReader::new(UnixStream::connect(&path).unwrap());
        assert_eq!(line(&mut first), "", "the first is hung up on");
        say(&port, "two\n");
        assert_eq!(line(&mut second), "two\n");
    }

    #[test]
    fn an_abandoned_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let live = Console::open(&socket(&path), false).unwrap();
        let error = Console::open(&socket(&path), false).err().unwrap();
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        drop(live);
    }

    #[test]
    fn a_restored_guest_appends_to_its_file() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("log");
        let config = SerialConfig {
            file: Some(path.clone()),
            mode: ConsoleOutputMode::File,
            socket: None,
        };
        for (append, text) in [(false, "one\n"), (false, "two\n"), (true, "three\n")] {
            let mut console = Console::open(&config, append).unwrap();
            say(&plug(&mut console), text);
            drop(console);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\nthree\n");
    }

    #[test]
    fn output_without_a_reader_is_bounded() {
        let dir = tempdir().unwrap();
        let console = Console::open(&socket(&dir.path().join("s")), false).unwrap();
        let wire = console.wire();
        wire.sent(b"lost");
        for _ in 0..BACKLOG / 1024 {
            wire.sent(&[b'x'; 1024]);
        }
        let output = console.shared.output();
        assert_eq!(output.len(), BACKLOG);
        assert_eq!(output.front(), Some(&b'x'));
    }
}
