// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The programs the host needs, and how they get there.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;

use crate::host::progress::Progress;
use crate::host::tool;

/// A program and the Debian package that holds it.
const NEEDED: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
    ("tar", "tar"),
    ("cc", "gcc"),
    // The fuzzer's runtime is C++.
    ("c++", "g++"),
    (
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "debian-archive-keyring",
    ),
    ("/usr/lib/x86_64-linux-gnu/libc.a", "libc6-dev"),
];

/// Without root, mmdebstrap unpacks in a user namespace.
const NEEDED_BY_USERS: &[(&str, &str)] = &[("newuidmap", "uidmap")];

/// Installs what is missing when this is root, else fails with the line that would.
pub fn ensure(progress: &Progress) -> Result<()> {
    install(progress, &missing(Uid::effective().is_root(), is_there))
}

/// The same with what only some tests need.
pub fn ensure_also(progress: &Progress, needed: &[(&str, &'static str)]) -> Result<()> {
    let missing: Vec<_> = needed
        .iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    install(progress, &missing)
}

fn install(progress: &Progress, missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_there("apt-get") {
        bail!("missing programs, and no apt-get here to install them: {list}");
    }
    if !Uid::effective().is_root() {
        bail!(
            "missing packages; install them with\n    sudo apt-get install --no-install-recommends {list}"
        );
    }
    progress.step(&format!("installing {list}"));
    let apt = |args: &[&str]| {
        tool::run(
            Command::new("apt-get")
                .args(args)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    apt(&["update"])?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(missing);
    apt(&install).with_context(|| format!("cannot install {list}"))
}

fn missing(is_root: bool, is_there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let more = if is_root { &[] } else { NEEDED_BY_USERS };
    NEEDED
        .iter()
        .chain(more)
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect()
}

fn is_there(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    path_dirs().iter().any(|dir| dir.join(program).is_file())
}

/// A user's PATH often lacks the sbin directories, where mke2fs and depmod are.
fn path_dirs() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .collect()
}

/// Makes the sbin directories part of this process's PATH.
pub fn extend_path() -> Result<()> {
    let joined = env::join_paths(path_dirs())?;
    // SAFETY: called first thing in main, before any other thread exists.
    unsafe { env::set_var("PATH", joined) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_installed() {
        assert_eq!(
            missing(true, |program| program != "depmod" && program != "xz"),
            ["kmod", "xz-utils"]
        );
        assert!(missing(true, |_| true).is_empty());
        assert_eq!(missing(false, |program| program != "newuidmap"), ["uidmap"]);
    }

    #[test]
    fn a_program_is_found_by_path_or_by_name() {
        assert!(is_there("sh"));
        assert!(is_there("/bin/sh"));
        assert!(!is_there("no-such-program-here"));
        assert!(!is_there("/no/such/program"));
    }
}
