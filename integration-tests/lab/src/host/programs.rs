// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Our own binaries for the lab: release builds, static, so that they run on any root.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::host::progress::Progress;
use crate::host::tool;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where the built binaries are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The agent, `/init` of the guests.
    pub agent: PathBuf,
    /// This program, built for the lab.
    pub lab: PathBuf,
    /// The VMM.
    pub vmm: PathBuf,
    /// The VMM whose devices can be given a bad character.
    pub vmm_fault: PathBuf,
}

/// The workspace this program was built from.
pub fn workspace() -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    path.canonicalize().with_context(|| {
        format!(
            "the source tree {} this was built from is gone",
            path.display()
        )
    })
}

/// Builds all of them.
pub fn build(progress: &Progress) -> Result<Programs> {
    let workspace = workspace()?;
    let target_dir = workspace.join("target/lab");
    let out = target_dir.join(TARGET).join("release");
    let cargo = |args: &[&str]| {
        let mut command = Command::new(cargo());
        command
            .args([
                "build",
                "--quiet",
                "--locked",
                "--release",
                "--target",
                TARGET,
                "--target-dir",
            ])
            .arg(&target_dir)
            .args(args)
            .current_dir(&workspace)
            // Flags for the lab's binaries only, whatever the caller has set for its own.
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            // They are copied into an image and unpacked by slow machines: small counts.
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
            .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo");
        tool::run(&mut command)
    };
    progress.step("building the programs for the lab");
    // The faulty one first: both have one name, and `vmm` shall be what a look at the directory finds.
    cargo(&["-p", "vmm", "--features", "fault"])?;
    let vmm_fault = out.join("vmm-fault");
    fs::copy(out.join("vmm"), &vmm_fault)?;
    // Each with its own features of what they share: the VMM has no fault of the lab's.
    cargo(&["-p", "vmm"])?;
    cargo(&["-p", "guest-agent", "-p", "lab"])?;
    Ok(Programs {
        agent: out.join("guest-agent"),
        lab: out.join("lab"),
        vmm: out.join("vmm"),
        vmm_fault,
    })
}

/// The cargo that built this program, when it is run by cargo.
pub fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
