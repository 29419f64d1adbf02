// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The lab's root: a minimal Debian with the tools the scenarios use, as a tree and as a disk image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::host::apt::{Apt, SUITE};
use crate::host::cache::{Cache, Key, remove};
use crate::host::kernel::Kernel;
use crate::host::tool;

/// What the lab has beyond a minimal Debian.
const PACKAGES: &[&str] = &[
    "btrfs-progs",
    "dmsetup",
    "e2fsprogs",
    "kmod",
    "mount",
    "qemu-system-x86",
    "sqlite3",
    "util-linux",
    "xfsprogs",
];

/// What a machine without readers does not need.
const EXCLUDED: &[&str] = &[
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
];

/// Unpacks the lab's root tree, the source of the guests' programs too.
///
/// The archive's newest packages as of the first call; removed from the cache to get newer ones.
pub fn tree(cache: &Cache, apt: &Apt) -> Result<PathBuf> {
    let key = Key::new("lab root 1")
        .text(SUITE)
        .text(&PACKAGES.join(" "))
        .text(&excluded());
    cache.keep("root", "tree", "", &key, |dir| {
        debian(dir, PACKAGES, &apt.sources(&[SUITE])?)
    })
}

/// What the trees of [`debian`] leave out.
pub fn excluded() -> String {
    EXCLUDED.join(" ")
}

/// Unpacks a minimal Debian with `packages` from `sources` as the tree `dir`.
pub fn debian(dir: &Path, packages: &[&str], sources: &str) -> Result<()> {
    let tar = dir.with_extension("tar");
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--quiet", "--variant=apt", "--architectures=amd64"])
        .arg(format!("--include={}", packages.join(",")))
        .args(
            EXCLUDED
                .iter()
                .map(|path| format!("--dpkgopt=path-exclude={path}")),
        )
        .args([
            "--aptopt=APT::Install-Recommends false",
            "--aptopt=Acquire::Languages none",
        ])
        .args([SUITE.as_ref(), tar.as_os_str()])
        .args(sources.lines())
        .env("LC_ALL", "C");
    tool::run(&mut command)?;
    fs::create_dir_all(dir)?;
    // Device nodes come from devtmpfs or the host, and only root could make them here.
    tool::run(
        Command::new("tar")
            .args(["--extract", "--exclude=./dev/*", "--file"])
            .arg(&tar)
            .arg("--directory")
            .arg(dir),
    )?;
    remove(&tar)
}

/// The disk image: the tree plus the lab kernel's modules.
pub fn image(cache: &Cache, tree: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let tree_key = tree
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let key = Key::new("lab image 1").text(&tree_key).text(&kernel.key);
    cache.keep("root", "lab", ".ext4", &key, |image| {
        let modules = tree.join("usr/lib/modules");
        fs::create_dir_all(&modules)?;
        let target = modules.join(&kernel.release);
        remove(&target)?;
        tool::run(
            Command::new("cp")
                .arg("--archive")
                .arg(&kernel.modules)
                .arg(&target),
        )?;
        for dir in ["lab", "scratch", "run", "proc", "sys", "dev"] {
            fs::create_dir_all(tree.join(dir))?;
        }
        make_ext4(image, tree, "1536M")?;
        remove(&target)
    })
}

/// An ext4 image of `size` with `dir`'s content, owned by root inside.
pub fn make_ext4(image: &Path, dir: &Path, size: &str) -> Result<()> {
    remove(image)?;
    tool::run(
        Command::new("mke2fs")
            .args([
                "-q",
                "-t",
                "ext4",
                "-O",
                "^has_journal",
                "-m",
                "0",
                "-E",
                "root_owner=0:0",
            ])
            .arg("-d")
            .arg(dir)
            .arg(image)
            .arg(size),
    )
}
