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
use log::LevelFilter;
use nix::sys::stat::{Mode, umask};
use thiserror::Error;

use crate::api::{ApiServer, ApiSocket, mailbox};
use crate::config::{Cli, LogTarget, VmmOptions, parse_args};
use crate::control::{Control, StopSignal};
use crate::error::one_line;
use crate::events::{EventMonitor, EventSink};
use crate::machine::MachineFactory;

/// Before the machine is there.
#[derive(Debug, Error)]
enum StartError {
    #[error("--log-file {}: cannot be written", .0.display())]
    LogFile(PathBuf, #[source] io::Error),
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
    start_log(&options)?;
    // Before any thread, so that none takes the signals the usual way.
    let stop = StopSignal::from_signals().map_err(StartError::Descriptor)?;
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
    if let Some(writer) = writer {
        writer.finish();
    }
    Ok(result?)
}

fn start_log(options: &VmmOptions) -> Result<(), StartError> {
    let start = Instant::now();
    let level = match options.verbosity {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let target = match &options.log {
        LogTarget::Stderr => Target::Stderr,
        LogTarget::File(path) => {
            let file =
                File::create(path).map_err(|error| StartError::LogFile(path.clone(), error))?;
            Target::Pipe(Box::new(file))
        }
    };
    env_logger::Builder::new()
        .filter_level(level)
        .target(target)
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
    Ok(())
}
