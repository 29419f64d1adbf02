// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! From the command line to the control loop, and the way back down.

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::current;
use std::time::Instant;

use env_logger::Target;
use log::{LevelFilter, warn};
use nix::sys::stat::{Mode, umask};
use thiserror::Error;

use crate::api::{ApiServer, ApiSocket, mailbox};
use crate::config::{Cli, LogTarget, VmmOptions, parse_args};
use crate::control::{Control, StopSignal};
use crate::error::one_line;
use crate::events::{EventMonitor, EventSink};
use crate::machine::MachineFactory;
use crate::spool::{Spool, SpoolWriter};

/// What the logger writes to: never waits, says later what was lost.
struct LogSpool {
    spool: Spool,
    lost: u64,
}

impl Write for LogSpool {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut text = String::from_utf8_lossy(line).into_owned();
        if self.lost > 0 {
            text = format!("vmm: {} log lines were lost here\n{text}", self.lost);
        }
        if self.spool.push(text) {
            self.lost = 0;
        } else {
            self.lost += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Before the machine is there.
#[derive(Debug, Error)]
enum StartError {
    #[error("--log-file {}: cannot be written", .0.display())]
    LogFile(PathBuf, #[source] io::Error),
    #[error("the log's thread cannot start")]
    LogThread(#[source] io::Error),
    #[error("the VMM has no file descriptor left")]
    Descriptor(#[from] io::Error),
}

/// Runs a VMM by a command line, `args` with the program's name first, until it ends.
///
/// What cannot be done is said in one line on standard error. Returns 0 after a guest's
/// power-off, a client's `vmm.shutdown`, SIGTERM or SIGINT, 2 for a wrong command line,
/// else 1.
pub fn run<I>(args: I, factory: Box<dyn MachineFactory>) -> ExitCode
where
    I: IntoIterator<Item = OsString>,
{
    let options = match parse_args(args) {
        Ok(Cli::Run(options)) => options,
        Ok(Cli::Print(text)) => {
            // Whoever closed the pipe does not want it.
            io::stdout().write_all(text.as_bytes()).ok();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("Error: {error}");
            return ExitCode::from(2);
        }
    };
    match serve(options, factory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {}", one_line(&*error));
            ExitCode::FAILURE
        }
    }
}

fn serve(options: VmmOptions, factory: Box<dyn MachineFactory>) -> Result<(), Box<dyn Error>> {
    // Sockets and files that this process makes are its user's alone.
    umask(Mode::from_bits_truncate(0o077));
    // Before any thread, so that none takes the signals the usual way.
    let stop = StopSignal::from_signals().map_err(StartError::Descriptor)?;
    let log = start_log(&options)?;
    let result = control(options, factory, stop);
    // The log's last lines come before the last word.
    log.finish();
    result
}

fn control(
    options: VmmOptions,
    factory: Box<dyn MachineFactory>,
    stop: StopSignal,
) -> Result<(), Box<dyn Error>> {
    let (monitor, writer) = match &options.event_monitor {
        Some(endpoint) => {
            let (monitor, writer) = EventMonitor::start(endpoint)?;
            (monitor, Some(writer))
        }
        None => (EventMonitor::silent(), None),
    };
    let events: Arc<dyn EventSink> = Arc::new(monitor);
    let (mailbox, outbox) = mailbox().map_err(StartError::Descriptor)?;
    let server = match &options.api_socket {
        Some(path) => Some(ApiServer::start(ApiSocket::bind(path)?, outbox)?),
        None => None,
    };

    let result = Control::new(factory, events, mailbox, stop).run(options.action);

    // Clients have their last answers, then the last events are written.
    drop(server);
    if writer.is_some_and(|writer| !writer.finish()) {
        warn!("the event monitor's reader does not read; the last events are lost");
    }
    Ok(result?)
}

fn start_log(options: &VmmOptions) -> Result<SpoolWriter, StartError> {
    let start = Instant::now();
    let level = match options.verbosity {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let file: Box<dyn Write + Send> = match &options.log {
        LogTarget::Stderr => Box::new(io::stderr()),
        LogTarget::File(path) => {
            let file =
                File::create(path).map_err(|error| StartError::LogFile(path.clone(), error))?;
            Box::new(file)
        }
    };
    let (spool, writer) = Spool::start("log", file, |_| {}).map_err(StartError::LogThread)?;
    env_logger::Builder::new()
        .filter_level(level)
        .target(Target::Pipe(Box::new(LogSpool { spool, lost: 0 })))
        .format(move |line, record| {
            writeln!(
                line,
                "vmm: {:.6?}: <{}> {}: {}",
                start.elapsed(),
                current().name().unwrap_or("?"),
                record.level(),
                record.args()
            )
        })
        // A second logger in one process is a test's doing.
        .try_init()
        .ok();
    Ok(writer)
}
