// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a guest is started from: its initramfs, and the library that makes QEMU's syncs slow.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::host::cache::{Cache, Key};
use crate::host::driver;
use crate::host::initramfs::Archive;
use crate::host::programs;
use crate::host::tool;

/// The shell of these guests, and its process 1.
const INIT: &str = "init";

/// Where the guests' scripts are.
fn scripts() -> Result<PathBuf> {
    Ok(programs::workspace()?.join("guest-driver/linux/tests"))
}

/// The text of a scenario, without its `.sh`.
pub fn script(name: &str) -> Result<String> {
    let path = scripts()?.join("scenarios").join(name).with_extension("sh");
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Writes a guest's initramfs to `path`: `base`, a shell, the scenario, and the modules in `driver`.
pub fn initramfs(
    path: &Path,
    base: &Path,
    busybox: &Path,
    scenario: &str,
    driver: &Path,
) -> Result<()> {
    let mut archive = Archive::create(path)?;
    archive.append(base)?;
    let init = scripts()?.join(INIT);
    archive.file(
        "init",
        0o755,
        &fs::read(&init).with_context(|| init.display().to_string())?,
    )?;
    // A directory now, no longer a link to /usr/bin: busybox has names there that the base has too.
    archive.file(
        "bin/busybox",
        0o755,
        &fs::read(busybox).with_context(|| busybox.display().to_string())?,
    )?;
    archive.link("bin/sh", "busybox")?;
    archive.file("scenario.sh", 0o644, script(scenario)?.as_bytes())?;
    for module in driver::MODULES {
        let from = driver.join(module);
        let content = fs::read(&from).with_context(|| from.display().to_string())?;
        archive.file(&format!("modules/{module}"), 0o644, &content)?;
    }
    archive.finish()
}

/// The library that, preloaded into QEMU, makes each of its syncs take `SLOW_FSYNC_MS`.
pub fn slow_fsync(cache: &Cache) -> Result<PathBuf> {
    let source = scripts()?.join("slow_fsync.c");
    let key = Key::new("slow fsync 1").file(&source)?;
    cache.keep("tools", "slow-fsync", ".so", &key, |path| {
        tool::run(
            Command::new("cc")
                .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"])
                .arg(path)
                .arg(&source)
                .arg("-ldl"),
        )
    })
}
