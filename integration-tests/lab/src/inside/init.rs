// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Process 1: brings the lab up, starts the runner, reaps, powers off.
//!
//! Whatever happens, the machine is powered off at the end: the host waits for
//! that and for nothing else.

use std::os::unix::process::CommandExt;
use std::panic;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{Pid, pause, sync};

use crate::inside::mounts;
use crate::inside::records::Port;
use crate::job::{Record, SHARE};

/// Modules the lab needs; those built into its kernel, or for the other
/// maker's processor, are allowed to fail.
const MODULES: [&str; 11] = [
    "virtio_console",
    "kvm-amd",
    "kvm-intel",
    "dm-mod",
    "dm-delay",
    "dm-flakey",
    "dm-log-writes",
    "dm-thin-pool",
    "loop",
    "ext4",
    "xfs",
];

/// Runs the lab from the root image's first process to power-off.
pub fn run() -> ! {
    let broken = match panic::catch_unwind(work) {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{error:#}")),
        Err(_) => Some("process 1 panicked; see the console".to_owned()),
    };
    if let Some(text) = broken {
        eprintln!("lab: {text}");
        // The port is the last resort: if it fails too, the console has the line.
        let _ = Port::open().and_then(|mut port| port.write(&Record::Broken { text }));
    }
    power_off()
}

fn work() -> Result<()> {
    mounts::system().context("cannot mount the system's filesystems")?;
    for module in MODULES {
        // One that is missing shows later, by name, at what needs it.
        let _ = Command::new("/sbin/modprobe")
            .arg("-q")
            .arg(module)
            .status();
    }
    let runner = Command::new(format!("{SHARE}/bin/lab"))
        .args(["inside", "runner"])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .current_dir("/")
        .process_group(0)
        .spawn()
        .context("cannot start the runner")?;
    reap_until(Pid::from_raw(i32::try_from(runner.id())?))
}

/// Reaps every child, its own and the orphans that fall to process 1, until
/// `runner` has ended.
fn reap_until(runner: Pid) -> Result<()> {
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, 0)) if pid == runner => return Ok(()),
            Ok(WaitStatus::Exited(pid, code)) if pid == runner => {
                bail!("the runner ended with code {code}");
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == runner => {
                bail!("the runner was ended by {signal}");
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => bail!("cannot wait for the runner: {error}"),
        }
    }
}

fn power_off() -> ! {
    sync();
    // Mounted disks are scratch or fresh copies; nothing has to be put in order.
    let _ = reboot(RebootMode::RB_POWER_OFF);
    // Without ACPI power-off we come back here; a reset ends QEMU (`-no-reboot`) too.
    let _ = reboot(RebootMode::RB_AUTOBOOT);
    loop {
        pause();
    }
}
