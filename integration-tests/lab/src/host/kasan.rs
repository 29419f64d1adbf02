// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The guest kernel with KASAN, built from Debian's source of a stock one.
//!
//! It takes the better part of an hour of two processors, once. So it is built where an
//! interrupted build can go on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, bail};

use crate::host::build_root::BuildRoot;
use crate::host::cache::{Cache, Key, remove};
use crate::host::kernel::{self, KASAN, Kernel, Source};
use crate::host::programs;
use crate::host::progress::Progress;
use crate::host::tool;

/// What a module needs of the source, and of the directory it was built in.
const KEPT_SOURCE: &[&str] = &["Kbuild", "Makefile", "arch", "include", "scripts"];
const KEPT_BUILD: &[&str] = &[
    ".config",
    "Makefile",
    "Module.symvers",
    "arch",
    "include",
    "scripts",
    "source",
    "tools",
];

/// The kernel; `of` is the stock one whose source is taken.
pub fn kernel(
    progress: &Progress,
    cache: &Cache,
    source: &Source,
    root: &BuildRoot,
    of: &Kernel,
) -> Result<Kernel> {
    let config = programs::workspace()?.join("guest-driver/linux/tests/kasan.config");
    let key = Key::new("kasan 1")
        .text(&of.key)
        .text(&root.key())
        .file(&config)?;
    let path = cache.keep("kernels", &format!("linux-{KASAN}"), "", &key, |dir| {
        let work = cache.dir(&format!("kasan-work/{}", key.short()))?;
        unpack(progress, source, of, &work)?;
        progress.step("building the kernel with KASAN; this takes long, once");
        compile(root, &work, &config)?;
        install(root, &work, dir)?;
        remove(&work)
    })?;
    let kernel = kernel::open(&path)?;
    Ok(Kernel {
        build: Some(path),
        ..kernel
    })
}

fn unpack(progress: &Progress, source: &Source, of: &Kernel, work: &Path) -> Result<()> {
    let done = work.join("unpacked");
    if done.exists() {
        return Ok(());
    }
    progress.step("unpacking the kernel's source");
    let debs = work.join("debs");
    remove(&debs)?;
    remove(&work.join("source"))?;
    source.unpack_source(of, &debs, &work.join("source"))?;
    remove(&debs)?;
    Ok(fs::write(done, "")?)
}

fn compile(root: &BuildRoot, work: &Path, config: &Path) -> Result<()> {
    let wanted = fs::read_to_string(config).with_context(|| config.display().to_string())?;
    fs::write(work.join("config"), &wanted)?;
    fs::create_dir_all(work.join("build"))?;
    let run = |words: &[&str]| root.run(&[(work, "kernel")], words);
    run(&[
        "make",
        "-s",
        "-C",
        "/kernel/source",
        "O=/kernel/build",
        "KCONFIG_ALLCONFIG=/kernel/config",
        "allnoconfig",
    ])?;
    let made = fs::read_to_string(work.join("build/.config"))?;
    let missing = missing(&wanted, &made);
    if !missing.is_empty() {
        bail!(
            "{} asks for what the kernel does not have: {}",
            config.display(),
            missing.join(" ")
        );
    }
    let jobs = format!(
        "-j{}",
        thread::available_parallelism().map_or(1, usize::from)
    );
    let make = ["nice", "-n", "15", "make", "-s", "-C", "/kernel/build"];
    run(&[&make[..], &[&jobs, "bzImage", "modules"]].concat())?;
    Ok(())
}

/// Lines of the fragment that did not become part of the configuration.
fn missing<'a>(wanted: &'a str, made: &str) -> Vec<&'a str> {
    wanted
        .lines()
        .filter(|line| line.starts_with("CONFIG_"))
        .filter(|line| !made.lines().any(|have| have == *line))
        .collect()
}

/// Lays the kernel out as the stock ones are, with what it takes to build a module for it.
fn install(root: &BuildRoot, work: &Path, dir: &Path) -> Result<()> {
    remove(&work.join("install"))?;
    root.run(
        &[(work, "kernel")],
        &[
            "make",
            "-s",
            "-C",
            "/kernel/build",
            "INSTALL_MOD_PATH=/kernel/install",
            "modules_install",
        ],
    )?;
    let build = work.join("build");
    let release = fs::read_to_string(build.join("include/config/kernel.release"))?;
    let release = release.trim();
    let modules = dir.join("usr/lib/modules");
    fs::create_dir_all(&modules)?;
    fs::rename(
        work.join("install/lib/modules").join(release),
        modules.join(release),
    )?;
    fs::create_dir_all(dir.join("boot"))?;
    fs::copy(
        build.join("arch/x86/boot/bzImage"),
        dir.join(format!("boot/vmlinuz-{release}")),
    )?;
    fs::write(dir.join("release"), release)?;
    for (name, kept) in [("source", KEPT_SOURCE), ("build", KEPT_BUILD)] {
        let from = work.join(name);
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            if !kept.iter().any(|kept| entry.file_name() == *kept) {
                remove(&entry.path())?;
            }
        }
        // Objects of the kernel, which a module is not linked with.
        tool::run(
            Command::new("find")
                .arg(from.join("arch"))
                .args(["-name", "*.[oa]", "-delete"]),
        )?;
        fs::rename(&from, dir.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_the_kernel_does_not_take_is_named() {
        let wanted = "# CONFIG_NOTE\nCONFIG_KASAN=y\nCONFIG_GONE=y\n";
        let made = "CONFIG_KASAN=y\n# CONFIG_GONE is not set\n";
        assert_eq!(missing(wanted, made), ["CONFIG_GONE=y"]);
        assert!(missing("CONFIG_KASAN=y\n", made).is_empty());
    }
}
