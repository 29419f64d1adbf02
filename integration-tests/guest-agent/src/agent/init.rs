// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What process 1 does before it takes orders.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::termios::{
    FlushArg, SetArg, SpecialCharacterIndices, cfmakeraw, tcflush, tcgetattr, tcsetattr,
};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::agent::line::Sender;
use crate::agent::modules;
use crate::agent::orders::Orders;
use crate::agent::{fatal, kmsg};

/// The first serial line; `agent.line=` on the kernel's command line names another.
const LINE: &str = "/dev/ttyS0";

/// Where programs are, whatever the initramfs calls its folders.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Sets the guest up and takes orders until the line is closed for good.
pub fn run() -> io::Result<()> {
    mounts()?;
    quiet_stdio()?;
    stay_in_memory()?;
    // SAFETY: no other thread runs yet.
    unsafe { env::set_var("PATH", PATH) };
    let cmdline = fs::read_to_string("/proc/cmdline")?;
    let option = |name: &str| {
        cmdline
            .split_ascii_whitespace()
            .rev()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let line = open_line(option("agent.line").unwrap_or(LINE))?;
    let sender = Sender::start(line.try_clone()?)?;
    fatal::install(sender.clone(), true);
    // Only emergencies reach the console, which is the same line; the rest goes as records.
    fs::write("/proc/sys/kernel/printk", "1")?;
    kmsg::forward(sender.clone())?;

    let mut warnings = modules::load_list(Path::new("/etc/agent/modules"));
    let driver = option("agent.driver").unwrap_or("c");
    match driver {
        "c" | "rust" => {
            let list = format!("/etc/agent/driver-{driver}");
            warnings.extend(modules::load_list(Path::new(&list)));
        }
        "none" => {}
        other => warnings.push(format!("agent.driver={other}: it is c, rust or none")),
    }

    let mut orders = Orders::start(sender.clone(), true)?;
    sender.hello(driver, warnings);
    orders.run(line)
}

/// A guest that swaps has to answer nevertheless. Not the pages that nobody touches: a thread's stack is mostly those.
fn stay_in_memory() -> io::Result<()> {
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    let flags = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault;
    Ok(mlockall(flags)?)
}

fn mounts() -> io::Result<()> {
    const PLAIN: MsFlags = MsFlags::MS_NOSUID;
    for (kind, target, options) in [
        ("proc", "/proc", ""),
        ("sysfs", "/sys", ""),
        ("devtmpfs", "/dev", ""),
        ("devpts", "/dev/pts", ""),
        ("tmpfs", "/dev/shm", ""),
        ("tmpfs", "/run", ""),
        ("tmpfs", "/tmp", ""),
    ] {
        fs::create_dir_all(target)?;
        match mount(Some(kind), target, Some(kind), PLAIN, Some(options)) {
            // The kernel may have mounted devtmpfs itself.
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(errno) => return Err(named(target, &errno.into())),
        }
    }
    // A kernel without debugfs is fine.
    let _ = mount(
        Some("debugfs"),
        "/sys/kernel/debug",
        Some("debugfs"),
        PLAIN,
        Some(""),
    );
    Ok(())
}

/// Programs and panics must not write into the line between records.
fn quiet_stdio() -> io::Result<()> {
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

/// Opens the serial line: bytes as they are, no echo, no signals.
fn open_line(path: &str) -> io::Result<File> {
    let line = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(path)
        .map_err(|error| named(path, &error))?;
    let mut mode = tcgetattr(line.as_fd()).map_err(|errno| named(path, &errno.into()))?;
    cfmakeraw(&mut mode);
    mode.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
    mode.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
    tcsetattr(line.as_fd(), SetArg::TCSANOW, &mode).map_err(|errno| named(path, &errno.into()))?;
    // What came before the raw mode was echoed and is half an order at best.
    tcflush(line.as_fd(), FlushArg::TCIFLUSH)?;
    Ok(line)
}

fn named(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
