// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a VMM's process costs: CPU time and VM exits.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::{SysconfVar, sysconf};

use crate::inside::command::run;

const DEBUGFS: &str = "/sys/kernel/debug";

/// Both since the process began.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// CPU time of all threads, the guest's included, in microseconds.
    pub cpu_us: u64,
    /// Exits of all virtual CPUs.
    pub exits: u64,
}

impl Cost {
    /// Of the process `id`.
    pub fn of(id: u32) -> Result<Self> {
        Ok(Self {
            cpu_us: cpu_us(id)?,
            exits: exits(id)?,
        })
    }

    /// What was added since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            cpu_us: self.cpu_us.saturating_sub(before.cpu_us),
            exits: self.exits.saturating_sub(before.exits),
        }
    }
}

/// Fields 14 and 15 of `stat` (proc(5)), in ticks.
fn cpu_us(id: u32) -> Result<u64> {
    let path = format!("/proc/{id}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 = [11, 12]
        .iter()
        .filter_map(|&field| fields.get(field)?.parse::<u64>().ok())
        .sum();
    let per_second = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100);
    Ok(ticks * 1_000_000 / u64::try_from(per_second)?)
}

/// KVM's own count; its folders are named after the thread that made the VM, which need not be the
/// process's first, and a descriptor.
fn exits(id: u32) -> Result<u64> {
    let kvm = Path::new(DEBUGFS).join("kvm");
    if !kvm.exists() {
        run("mount", &["-t", "debugfs", "none", DEBUGFS])?;
    }
    let threads = names(&Path::new("/proc").join(id.to_string()).join("task"))?;
    let of_the_process = |folder: &str| {
        (folder.split_once('-')).is_some_and(|(thread, _)| threads.iter().any(|t| t == thread))
    };
    let mut folders = names(&kvm)?;
    folders.retain(|folder| of_the_process(folder));
    ensure!(
        !folders.is_empty(),
        "{} has no VM of process {id}",
        kvm.display()
    );
    (folders.iter())
        .map(|folder| number(&kvm.join(folder).join("exits")))
        .sum()
}

fn names(folder: &Path) -> Result<Vec<String>> {
    fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn number(path: &PathBuf) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(text.trim().parse()?)
}
