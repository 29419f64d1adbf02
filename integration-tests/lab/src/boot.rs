// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `/init` of the lab's initramfs: from the kernel's first step to `lab inside`.
//!
//! Loads the modules the initramfs brings, mounts the root image and the share, makes them the root
//! and becomes `/lab/bin/lab inside`.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::{chdir, chroot, execv};

use crate::job::{ROOT_SERIAL, SHARE, SHARE_SERIAL};

/// On the kernel command line: only show that the machine runs a kernel and can nest, then stop.
pub const PROBE: &str = "lab.probe";

/// Printed on the console when the probe found hardware virtualisation inside the machine.
pub const PROBE_OK: &str = "lab-probe: nests";

/// Where the initramfs keeps the modules, and the file that lists them in load order.
pub const MODULES: &str = "/modules";

const NEW_ROOT: &str = "/newroot";

/// Never returns while all is well: process 1 becomes `lab inside`.
pub fn main() -> ExitCode {
    let Err(error) = start();
    eprintln!("lab: cannot start the lab: {error:#}");
    // Not a return: the end of process 1 would be a kernel panic, which hides the line above.
    let _ = reboot(RebootMode::RB_POWER_OFF);
    ExitCode::FAILURE
}

fn start() -> Result<Infallible> {
    mount_fresh("devtmpfs", "/dev")?;
    mount_fresh("proc", "/proc")?;
    mount_fresh("sysfs", "/sys")?;
    let cmdline = fs::read_to_string("/proc/cmdline")?;
    if cmdline.split_whitespace().any(|word| word == PROBE) {
        probe()?;
    }

    load_modules()?;
    mount_disk(ROOT_SERIAL, Path::new(NEW_ROOT), MsFlags::empty())?;
    for dir in ["/dev", "/proc", "/sys"] {
        let to = format!("{NEW_ROOT}{dir}");
        move_mount(dir, &to)?;
    }
    chdir(NEW_ROOT)?;
    move_mount(".", "/")?;
    chroot(".")?;
    chdir("/")?;
    mount_disk(SHARE_SERIAL, Path::new(SHARE), MsFlags::MS_RDONLY)?;

    let path = CString::new(format!("{SHARE}/bin/lab"))?;
    let args = [path.clone(), c"inside".to_owned()];
    execv(&path, &args).with_context(|| format!("cannot run {}", path.to_string_lossy()))
}

fn probe() -> Result<()> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    if cpu
        .split_whitespace()
        .any(|flag| flag == "vmx" || flag == "svm")
    {
        println!("{PROBE_OK}");
    }
    reboot(RebootMode::RB_POWER_OFF)?;
    Ok(())
}

fn load_modules() -> Result<()> {
    let order = Path::new(MODULES).join("order");
    for name in fs::read_to_string(&order)
        .with_context(|| order.display().to_string())?
        .lines()
    {
        let path = Path::new(MODULES).join(name);
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        finit_module(&file, c"", ModuleInitFlags::empty())
            .with_context(|| format!("cannot load {name}"))?;
    }
    Ok(())
}

/// The disk's driver probes before its module's init returns, so there is nothing to wait for.
fn disk(serial: &str) -> Result<PathBuf> {
    for entry in fs::read_dir("/sys/block")? {
        let entry = entry?;
        let found = fs::read_to_string(entry.path().join("serial")).unwrap_or_default();
        if found.trim() == serial {
            return Ok(Path::new("/dev").join(entry.file_name()));
        }
    }
    bail!("no disk with serial {serial:?}")
}

fn mount_disk(serial: &str, target: &Path, flags: MsFlags) -> Result<()> {
    let disk = disk(serial)?;
    fs::create_dir_all(target)?;
    mount(Some(&disk), target, Some("ext4"), flags, None::<&str>)
        .with_context(|| format!("cannot mount {} at {}", disk.display(), target.display()))
}

fn mount_fresh(kind: &str, target: &str) -> Result<()> {
    fs::create_dir_all(target)?;
    mount(
        Some(kind),
        target,
        Some(kind),
        MsFlags::empty(),
        None::<&str>,
    )
    .with_context(|| format!("cannot mount {kind} at {target}"))
}

fn move_mount(from: &str, to: &str) -> Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .with_context(|| format!("cannot move {from} to {to}"))
}
