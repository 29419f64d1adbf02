// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Process 1 of the test guests.
//!
//! As process 1 it sets the guest up and takes orders on `ttyS0`. On a normal machine it has
//! subcommands.

mod agent;
mod cli;
mod hog;

use std::process::{self, ExitCode};

fn main() -> ExitCode {
    if process::id() == 1 {
        agent::run_as_init()
    } else {
        cli::run()
    }
}
