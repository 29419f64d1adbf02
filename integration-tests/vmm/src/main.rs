// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A small KVM virtual machine monitor that hosts the flush engine under test.

use std::env::args_os;
use std::process::ExitCode;

use vmm::start::run;
use vmm::vm::KvmFactory;

fn main() -> ExitCode {
    run(args_os(), Box::new(KvmFactory))
}
