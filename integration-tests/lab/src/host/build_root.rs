// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The root that kernel modules are built in: the Debian the guests' kernels are from, with its
//! compilers and these kernels' headers.
//!
//! A command in it has mounts of its own, which end with it. Without root, a user namespace
//! allows them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;

use crate::host::apt::{Apt, BACKPORTS, SUITE};
use crate::host::cache::{Cache, Key};
use crate::host::rootfs;
use crate::host::tool;

/// What it has beyond a minimal Debian and the headers: what a module takes, what a kernel takes
/// beyond that, and the shell of the guests that run without an agent.
const PACKAGES: &[&str] = &[
    "bc",
    "binutils",
    "bison",
    "busybox-static",
    "flex",
    "gcc",
    "kmod",
    "libc6-dev",
    "libelf-dev",
    "make",
    "rust-src",
    "rustc",
    "xz-utils",
];

/// Where a command's own directories can appear in the root.
pub const PLACES: &[&str] = &["build", "kernel"];

/// Enters the root: its arguments are the root, pairs of a directory and its place in the root,
/// `--`, and the command. /proc and /dev are the host's, because a user namespace
/// gets no others.
const ENTER: &str = r#"
root=$1
shift
for dir in dev proc; do mount --rbind "/$dir" "$root/$dir"; done
while [ "$1" != -- ]; do
    mount --bind "$1" "$root/$2"
    shift 2
done
shift
exec chroot "$root" /usr/bin/env -i LC_ALL=C HOME=/tmp PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@" 2>&1
"#;

/// The root, unpacked.
pub struct BuildRoot {
    tree: PathBuf,
}

impl BuildRoot {
    /// Finds or makes the root with the headers of these kernels.
    pub fn open(cache: &Cache, apt: &Apt, releases: &[&str]) -> Result<Self> {
        let headers: Vec<_> = releases.iter().map(|release| headers(release)).collect();
        let packages: Vec<_> = PACKAGES
            .iter()
            .copied()
            .chain(headers.iter().map(String::as_str))
            .collect();
        let key = Key::new("build root 1")
            .text(SUITE)
            .text(&packages.join(" "))
            .text(&rootfs::excluded());
        let tree = cache.keep("root", "build", "", &key, |dir| {
            rootfs::debian(dir, &packages, &apt.sources(&[SUITE, BACKPORTS])?).with_context(
                || {
                    format!(
                        "cannot make a root with {}; if the archive has newer ones only, \
                         ./scripts/setup takes these",
                        headers.join(" and ")
                    )
                },
            )?;
            for place in PLACES {
                fs::create_dir_all(dir.join(place))?;
            }
            Ok(())
        })?;
        Ok(Self { tree })
    }

    /// A file of the root.
    pub fn path(&self, name: &str) -> PathBuf {
        self.tree.join(name)
    }

    /// Changes whenever the root does.
    pub fn key(&self) -> String {
        self.tree
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// Runs a command with each of `binds`, a directory and one of [`PLACES`], mounted; gives all it
    /// said.
    pub fn run(&self, binds: &[(&Path, &str)], words: &[&str]) -> Result<String> {
        let mut command = Command::new("unshare");
        command.arg("--mount");
        if !Uid::effective().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["sh", "-euc", ENTER, "sh"]).arg(&self.tree);
        for (from, place) in binds {
            command.arg(from).arg(place);
        }
        command.arg("--").args(words);
        let output = command.output().context("cannot run unshare")?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if !output.status.success() {
            bail!("{}", failure(&words.join(" "), &said));
        }
        Ok(said)
    }
}

/// What to say of a command in the root that failed, or that was not even begun.
fn failure(command: &str, said: &str) -> String {
    let said = tool::tail(said, 20);
    if ["unshare:", "mount:", "chroot:"]
        .iter()
        .any(|tool| said.starts_with(tool))
    {
        return format!(
            "cannot enter the root for builds, which takes root, or a kernel that lets users make \
             namespaces: {said}"
        );
    }
    format!("{command} failed:\n{said}")
}

/// The package with a kernel's headers, which is the name of their directory too.
pub fn headers(release: &str) -> String {
    format!("linux-headers-{release}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_cannot_be_entered_is_not_taken_for_a_build_that_fails() {
        let refused = failure("make", "unshare: unshare failed: Operation not permitted\n");
        assert!(refused.contains("namespaces") && refused.contains("not permitted"));
        let failed = failure("make -C /build", "a.c:1: error: unshare: no\n");
        assert!(failed.starts_with("make -C /build failed") && failed.contains("a.c:1"));
    }
}
