// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The agent: takes orders from the line, runs them, answers.

mod fatal;
mod init;
mod kmsg;
mod line;
mod modules;
mod orders;
mod power;
mod reap;
mod steps;
mod stop;
mod sysfs;
mod tool;
mod uevent;

use std::fs::File;
use std::io;
use std::process::ExitCode;

use crate::agent::line::Sender;
use crate::agent::orders::Orders;

/// Sets the guest up and takes orders until it is powered off.
pub fn run_as_init() -> ExitCode {
    match init::run() {
        Ok(()) => fatal::report("the line to the outside was closed"),
        Err(error) => fatal::report(&format!("{error}")),
    }
    ExitCode::FAILURE
}

/// Takes orders from `input` and answers on `output` until the input ends.
///
/// # Errors
///
/// The input cannot be read.
pub fn serve(input: File, output: File) -> io::Result<()> {
    let sender = Sender::start(output)?;
    fatal::install(sender.clone(), false);
    let mut orders = Orders::start(sender.clone(), false)?;
    sender.hello("none", Vec::new());
    orders.run(input)?;
    sender.flush();
    Ok(())
}
