// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Snapshot and restore over memory size and dirty share, and the way from start to a mounted
//! filesystem.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use guest_agent::wire::{Filesystem, LoadKind, LoadSpec};
use serde::Serialize;

use crate::inside::context::Context;
use crate::inside::disk::HostFs;
use crate::inside::guest::Guest;
use crate::inside::machine::{Pmem, Restore};
use crate::scenarios::bench::{Rows, numbers};
use crate::scenarios::support::{DATA_BYTES, ms, no_errors};

const PAGES_PER_MIB: u64 = 256;

/// One snapshot.
#[derive(Serialize)]
struct Row {
    memory_mib: u64,
    dirty_percent: u64,
    round: u64,
    step: String,
    boot_to_mount_ms: u64,
    snapshot_ms: u64,
    snapshot_bytes: u64,
    restore_ms: u64,
}

/// `bench-snapshot`.
pub fn run(context: &mut Context) -> Result<()> {
    let sizes = numbers(context, "memory", &[256, 512, 1024])?;
    // A guest's /tmp holds half of its memory at most.
    let shares = numbers(context, "dirty", &[0, 20, 40])?;
    let rounds = context.number("rounds", 3)?;
    let backing = context.backing("data", HostFs::Ext4, DATA_BYTES)?;
    let mut rows = Rows::default();
    for &memory_mib in &sizes {
        for &dirty_percent in &shares {
            let step = format!("{memory_mib} MiB, {dirty_percent} % dirty");
            let data = backing.written_file("pmem.img", DATA_BYTES)?;
            let begun = Instant::now();
            let driver = context.trial.driver.name();
            let pmem = vec![Pmem::new("data", &data)];
            let mut guest = context.boot_shaped(pmem, driver, |boot| {
                boot.memory_mib = memory_mib;
            })?;
            guest.devices(1)?;
            let rc = guest.mkfs(Filesystem::Ext4, "#0")?;
            ensure!(rc == 0, "mkfs ended with {rc}");
            guest.mount(Filesystem::Ext4, "#0", "/mnt/data", false)?;
            let boot_to_mount_ms = ms(begun.elapsed());
            dirty(context, &mut guest, memory_mib * dirty_percent / 100)?;
            for round in 0..rounds {
                context.step(&step);
                guest.pause()?;
                let folder = context.snapshot_folder("snapshot")?;
                let snapshot = guest.snapshot(&folder)?;
                let snapshot_bytes = size(&folder)?;
                guest.kill()?;
                let restore = guest.restore(&Restore {
                    allow_stale: false,
                    from: folder.clone(),
                })?;
                guest.resume()?;
                fs::remove_dir_all(folder)?;
                rows.add(
                    context,
                    &Row {
                        memory_mib,
                        dirty_percent,
                        round,
                        step: step.clone(),
                        boot_to_mount_ms,
                        snapshot_ms: ms(snapshot),
                        snapshot_bytes,
                        restore_ms: ms(restore),
                    },
                );
            }
            guest.is_well()?;
        }
    }
    Ok(())
}

/// Fills so many MiB of the guest's memory with data: files on its root, which lies in memory.
fn dirty(context: &Context, guest: &mut Guest, mib: u64) -> Result<()> {
    if mib == 0 {
        return Ok(());
    }
    let kind = LoadKind::File {
        dir: "/tmp/dirty".to_owned(),
        append: false,
    };
    let blocks = mib * PAGES_PER_MIB;
    let mut spec = LoadSpec::new(kind, 1, blocks, context.trial.seed);
    spec.writes_per_sync = u32::try_from(blocks)?;
    spec.syncs_per_thread = 1;
    context.step(&format!("fill {mib} MiB"));
    guest.load_start("dirty", spec)?;
    let report = guest.load_wait("dirty", Duration::from_secs(300))?;
    no_errors(&report).context("the load that fills the memory")
}

fn size(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        // What it takes: holes are zero pages.
        sum += entry?.metadata()?.blocks() * 512;
    }
    Ok(sum)
}
