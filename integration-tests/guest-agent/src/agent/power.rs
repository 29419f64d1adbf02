// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Leaving.

use std::process;

use nix::sys::reboot::{RebootMode, reboot};

fn leave(mode: RebootMode) -> ! {
    // It returns only if the caller may not do it, which process 1 of a guest may.
    let Err(errno) = reboot(mode);
    eprintln!("guest-agent: cannot leave: {errno}");
    process::exit(1);
}

/// Powers the machine off.
pub fn off() -> ! {
    leave(RebootMode::RB_POWER_OFF)
}

/// Reboots the machine.
pub fn restart() -> ! {
    leave(RebootMode::RB_AUTOBOOT)
}
