// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The host half: images, the lab machine, trials and what a person sees of them.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod accel;
mod apt;
mod bench;
mod build_root;
mod cache;
mod demo;
mod driver;
mod elf;
mod exec;
mod initramfs;
mod keeper;
mod kernel;
mod lab;
mod machine;
mod modules;
mod packages;
mod programs;
mod progress;
mod rootfs;
mod setup;
mod share;
mod tool;
mod trials;

/// Builds the lab machine, runs the scenarios in it and collects their results.
#[derive(Debug, Parser)]
#[command(name = "lab", disable_help_subcommand = true)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prepare everything a lab needs, with the newest kernels the archive has
    Setup,
    /// Run one command inside a fresh lab
    Exec(exec::Options),
    /// The whole way once: mkfs, mount, fsync load, live snapshot, kill, restore, verify
    Demo(demo::Options),
    /// Measure, and write docs/results
    Bench(bench::Options),
    /// Run tests: on this machine, and scenarios in labs
    Test(trials::Options),
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let result = packages::extend_path().and_then(|()| {
        let options = Options::parse();
        keeper::watch_signals()?;
        run(options)
    });
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<ExitCode> {
    match options.command {
        Command::Setup => setup::main(),
        Command::Exec(options) => exec::main(options),
        Command::Demo(options) => demo::main(&options),
        Command::Bench(options) => bench::main(&options),
        Command::Test(options) => trials::main(&options),
    }
}
