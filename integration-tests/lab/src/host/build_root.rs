// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The root that kernel modules are built in: the Debian the guests' kernels are from, with its
//! compilers and these kernels' headers.
//!
//! A command in it has mounts of its own, which end with it. Without root, a user namespace
//! allows them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
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
        tool::output(&mut command).context(
            "in the root for builds, which takes root or a kernel that lets users make namespaces",
        )
    }
}

/// The package with a kernel's headers, which is the name of their directory too.
pub fn headers(release: &str) -> String {
    format!("linux-headers-{release}")
}
