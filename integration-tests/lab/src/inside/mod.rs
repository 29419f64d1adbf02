// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What runs inside the lab machine.
//!
//! The same static binary is process 1 of the lab ([`init`]), the runner that
//! works through the job ([`runner`]) and the process of one trial
//! ([`trial`]). Each starts the next one as a child, so that a panic, a hang or
//! a kill below is seen, reported and cleaned up above.

use std::env;
use std::process::{ExitCode, id};

pub mod acks;
pub mod cleanup;
pub mod command;
pub mod context;
pub mod disk;
pub mod driver;
pub mod events;
pub mod guest;
mod init;
pub mod machine;
mod mounts;
mod process;
mod records;
pub mod replay;
mod runner;
mod trial;
pub mod wait;

/// `lab inside`: process 1 after the root image was entered.
/// `lab inside runner`: works through the job.
/// `lab inside trial N`: runs trial N of the job.
pub fn main() -> ExitCode {
    let mut arguments = env::args().skip(2);
    match (id(), arguments.next().as_deref()) {
        (1, _) => init::run(),
        (_, Some("runner")) => runner::run(),
        (_, Some("trial")) => trial::run(arguments.next().as_deref()),
        _ => {
            eprintln!("lab: `inside` is for the lab machine; use `exec` or `run` here");
            ExitCode::FAILURE
        }
    }
}
