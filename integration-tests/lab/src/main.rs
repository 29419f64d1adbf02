// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Builds the lab machine, runs the scenarios in it and collects their results.
//!
//! One binary, three lives: the command a developer runs (`host`), the first process of the lab's
//! initramfs (`boot`), and process 1 of the lab (`inside`).

use std::env;
use std::process::{ExitCode, id};

mod boot;
mod host;
mod inside;
mod job;
mod scenarios;

fn main() -> ExitCode {
    let mut args = env::args();
    let name = args.next().unwrap_or_default();
    if id() == 1 && name == "/init" {
        return boot::main();
    }
    if args.next().as_deref() == Some("inside") {
        return inside::main();
    }
    host::main()
}
