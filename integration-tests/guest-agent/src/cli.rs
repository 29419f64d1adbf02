// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The subcommands for a normal machine, and those that process 1 starts in processes of
//! their own.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use guest_agent::client::{Client, ClientError};
use guest_agent::hostile::{self, Case};
use guest_agent::verify::verify;
use guest_agent::wire::{HostileTarget, Step};

use crate::{agent, hog};

#[derive(Parser)]
#[command(name = "guest-agent", version, about = "Process 1 of the test guests")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Hold a load's data against its ack area; exit 0 if every acked block is there
    Verify {
        /// The data: a device, its image, or the directory of the load's files
        #[arg(long)]
        data: PathBuf,
        /// The ack device or its image
        #[arg(long)]
        ack: PathBuf,
        /// Where the ack area starts, in bytes
        #[arg(long, default_value_t = 0)]
        ack_offset: u64,
    },
    /// Drive a virtio-pmem device's ring by hand; exit 0 if it met the case's expectation
    Hostile {
        /// The case's name; `all` runs each, `list` prints them
        case: String,
        /// The device: its place on the command line, a PCI function's name in sysfs, or the
        /// guest physical address of virtio-mmio registers (0x...)
        #[arg(long, default_value = "0")]
        device: String,
        /// How long the device may take to answer, in milliseconds
        #[arg(long, default_value_t = 5000)]
        bound_ms: u64,
        /// Before each reset wait for a byte in /run/hostile-hold
        #[arg(long)]
        hold: bool,
    },
    /// Send steps to a guest over a socket and print the outcomes, one JSON line each
    Order {
        /// The Unix socket of the guest's first serial line
        #[arg(long)]
        socket: PathBuf,
        /// How long each step may take, in seconds
        #[arg(long, default_value_t = 60)]
        timeout: u64,
        /// Also print what the guest says by itself, on standard error
        #[arg(long)]
        verbose: bool,
        /// Steps as JSON, as in {"do":"status"}
        #[arg(required = true)]
        steps: Vec<String>,
    },
    /// Use more memory than there is, and print how many pages were written
    Hog {
        /// How much
        #[arg(long)]
        mib: usize,
        /// Goes on until this file, which it makes, is written to
        #[arg(long)]
        until: PathBuf,
    },
    /// Take orders on standard input and answer on standard output
    Serve,
}

fn target(device: &str) -> Result<HostileTarget, String> {
    if let Some(hex) = device.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16)
            .map(HostileTarget::Mmio)
            .map_err(|_| format!("--device {device}: an address is 0x and hexadecimal digits"));
    }
    if device.contains(':') {
        return Ok(HostileTarget::Pci(device.to_owned()));
    }
    device.parse().map(HostileTarget::Index).map_err(|_| {
        format!("--device {device}: give a number from 0, a PCI function or an address (0x...)")
    })
}

fn run_hostile(case: &str, device: &str, bound_ms: u64, hold: bool) -> Result<bool, String> {
    let cases = match case {
        "list" => {
            for case in Case::ALL {
                println!("{:24} {}", case.name(), case.about());
            }
            return Ok(true);
        }
        "all" => Case::ALL.to_vec(),
        name => vec![Case::by_name(name).ok_or_else(|| {
            let names: Vec<_> = Case::ALL.iter().map(|case| case.name()).collect();
            format!("{name} is no case; cases are {}", names.join(", "))
        })?],
    };
    let target = target(device)?;
    let mut ok = true;
    for case in cases {
        let report = hostile::run(case, &target, Duration::from_millis(bound_ms), hold)
            .map_err(|error| format!("{}: {error}", case.name()))?;
        ok &= report.ok;
        let json = serde_json::to_string(&report).map_err(|error| error.to_string())?;
        println!("{json}");
    }
    Ok(ok)
}

fn order(socket: &Path, within: Duration, verbose: bool, steps: &[String]) -> Result<bool, String> {
    let parsed = steps
        .iter()
        .map(|text| {
            serde_json::from_str(text).map_err(|error| format!("{text} is no step: {error}"))
        })
        .collect::<Result<Vec<Step>, _>>()?;
    let line = UnixStream::connect(socket)
        .map_err(|error| format!("--socket {}: {error}", socket.display()))?;
    let mut client = Client::new(line);
    let mut ok = true;
    for step in parsed {
        let result = client.run(step, within);
        if verbose {
            client.heard().for_each(|heard| eprintln!("{heard:?}"));
        }
        match result {
            Ok(outcome) => {
                let json = serde_json::to_string(&outcome).map_err(|error| error.to_string())?;
                println!("{json}");
            }
            Err(ClientError::Guest(failure)) => {
                ok = false;
                println!("{}", serde_json::json!({ "failure": failure }));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(ok)
}

fn serve() -> io::Result<()> {
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    agent::serve(input, output)
}

/// Runs the subcommand of the process's arguments.
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Verify {
            data,
            ack,
            ack_offset,
        } => verify(&data, &ack, ack_offset)
            .map_err(|error| error.to_string())
            .and_then(|report| {
                let json = serde_json::to_string(&report).map_err(|error| error.to_string())?;
                println!("{json}");
                Ok(report.holds())
            }),
        Command::Hostile {
            case,
            device,
            bound_ms,
            hold,
        } => run_hostile(&case, &device, bound_ms, hold),
        Command::Order {
            socket,
            timeout,
            verbose,
            steps,
        } => order(&socket, Duration::from_secs(timeout), verbose, &steps),
        Command::Hog { mib, until } => hog::run(mib, &until).map(|pages| {
            println!("{pages}");
            true
        }),
        Command::Serve => serve().map(|()| true).map_err(|error| error.to_string()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("guest-agent: {message}");
            ExitCode::from(2)
        }
    }
}
