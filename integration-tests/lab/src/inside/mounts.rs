// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The filesystems of the lab machine and the disks they come from.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

/// Mounts what every Linux process expects.
pub fn system() -> Result<()> {
    for (kind, path) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/dev/shm"),
        ("devpts", "/dev/pts"),
    ] {
        mount_point(kind, Path::new(path))?;
    }
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        match symlink(target, link) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot link {link}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Mounts `kind` at `at` unless it is there already.
fn mount_point(kind: &str, at: &Path) -> Result<()> {
    if is_mounted(kind, at) {
        return Ok(());
    }
    let _ = fs::create_dir_all(at);
    match mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>) {
        Ok(()) | Err(Errno::EBUSY) => Ok(()),
        Err(error) => bail!("cannot mount {kind} at {}: {error}", at.display()),
    }
}

fn is_mounted(kind: &str, at: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == at.to_str() && fields.next() == Some(kind)
    })
}

/// The device node of the virtio-blk disk with this serial number.
pub fn disk(serial: &str) -> Result<PathBuf> {
    for entry in fs::read_dir("/sys/block").context("cannot list /sys/block")? {
        let entry = entry?;
        let found = fs::read_to_string(entry.path().join("serial")).unwrap_or_default();
        if found.trim() == serial {
            return Ok(Path::new("/dev").join(entry.file_name()));
        }
    }
    bail!("no disk in /sys/block has the serial number `{serial}`")
}
