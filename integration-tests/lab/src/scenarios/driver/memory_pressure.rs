// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! fsync while the guest reclaims memory, and swaps to a device of the same driver.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use guest_agent::wire::{Filesystem, LoadKind, Outcome, Step};

use crate::inside::acks::Acks;
use crate::inside::context::Context;
use crate::inside::disk::{HostFs, ReadOnly, Table};
use crate::inside::driver::{Bound, boot, boot_faulty, read};
use crate::inside::guest::{Guest, SHORT, code};
use crate::inside::machine::Pmem;
use crate::inside::wait;
use crate::job::Driver;
use crate::scenarios::driver::busy::tool;
use crate::scenarios::support::{DATA_BYTES, STOP, acked, no_errors, verified};

/// What a flush of the disk takes.
const COST_MS: u32 = 20;
/// More than the guest's memory, and less than that and the swap space.
const HOG_MIB: u64 = 320;
const SECONDS: u64 = 20;
/// For the hog's two rounds, on a slow machine.
const HOG: Duration = Duration::from_secs(180);
const SWAP_BYTES: u64 = 320 << 20;
const THREADS: u32 = 4;
/// Syncs that must come through while memory is short.
const SYNCS: u64 = 20;
const DIR: &str = "/mnt/data/files";
const MOUNT: &str = "/mnt/data";
/// What /proc/vmstat counts of it: pages swapped out, and pages that a task had to look at
/// because none was free.
const SWAPPED: &str = "pswpout";
const SCANNED: &str = "pgscan_direct";

/// `memory-pressure`.
pub fn run(context: &mut Context) -> Result<()> {
    let seconds = context.number("seconds", SECONDS)?;
    let backing = context.backing("data", HostFs::Ext4, DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    let room = context.backing("swap", HostFs::Ext4, SWAP_BYTES)?;
    let swap = room.reserved_file("swap.img", SWAP_BYTES)?;
    let ack = context.ack()?;
    let acks = Acks::new(&ack.file, 0);
    let pmem = vec![Pmem::new("data", &data), ack, Pmem::new("swap", &swap)];
    let mut guest = match context.trial.options.get("driver_fault") {
        Some(fault) => boot_faulty(context, pmem, fault)?,
        None => boot(context, pmem, "")?,
    };
    let swap = Bound::find(&mut guest, 2)?;
    tool(&mut guest, &["mkswap", &swap.path])?;
    tool(&mut guest, &["swapon", &swap.path])?;
    let mkfs_rc = guest.mkfs(Filesystem::Ext4, "#0")?;
    ensure!(mkfs_rc == 0, "mkfs ended with {mkfs_rc}");
    // Without DAX: the data goes through the page cache, which is what is short.
    guest.mount(Filesystem::Ext4, "#0", MOUNT, false)?;
    backing.disk(Table::FlushCost(COST_MS))?;
    let kind = LoadKind::File {
        dir: DIR.to_owned(),
        append: false,
    };
    let mut spec = acked(context, kind, THREADS, "#1", 0);
    spec.writes_per_sync = 4;
    guest.load_start("load", spec)?;
    acks.go_on(2, SHORT)?;

    context.step("memory runs short");
    let before = [vmstat(&mut guest, SWAPPED)?, vmstat(&mut guest, SCANNED)?];
    let within = Duration::from_secs(seconds) + HOG;
    let hog = guest.start_order(Step::Tool {
        argv: hog(seconds),
        timeout_ms: within.as_secs() * 1000,
        stdin: String::new(),
    })?;
    wait::until("pages to be swapped out", within, || {
        Ok((vmstat(&mut guest, SWAPPED)? > before[0]).then_some(()))
    })
    .context("the run does not count")?;
    if let Err(error) = acks.go_on(SYNCS, Duration::from_secs(seconds) + SHORT) {
        // Errors say more than that nothing gets through.
        no_errors(&guest.load_stop("load", STOP)?)?;
        return Err(error.context("no fsync gets through while memory is short"));
    }
    let result = match guest.finish_order(hog, within + SHORT)? {
        Outcome::Tool(result) => result,
        other => bail!("the guest answered {other:?} instead of a tool's result"),
    };
    ensure!(code(&result) == 0, "the hog did not live: {result:?}");
    context.measure("pages_written", result.output.trim());
    for (name, before) in [SWAPPED, SCANNED].into_iter().zip(before) {
        let pages = vmstat(&mut guest, name)? - before;
        context.measure(name, pages);
        ensure!(
            pages > 0,
            "the run does not count: memory was not short ({name} is 0)"
        );
    }

    context.step("check");
    backing.disk(Table::Plain)?;
    let report = guest.load_stop("load", STOP)?;
    no_errors(&report)?;
    context.measure("fsyncs", report.fsyncs);
    context.measure("fsync_ms_max", report.latency.max_us / 1000);
    guest.umount(MOUNT)?;
    let fsck_rc = guest.fsck(Filesystem::Ext4, "#0")?;
    ensure!(fsck_rc == 0, "fsck ended with {fsck_rc}");
    if context.trial.driver == Driver::Rust {
        let bound = Bound::find(&mut guest, 0)?;
        let errors = bound.counter(&mut guest, "errors")?;
        ensure!(errors == 0, "the driver counts {errors} errors");
    }
    guest.is_well()?;
    guest.machine().shutdown(SHORT)?;
    let files = ReadOnly::mount(&data, false)?;
    verified(&files.path().join("files"), &acks.file, 0)?;
    Ok(())
}

fn hog(seconds: u64) -> Vec<String> {
    let (mib, seconds) = (HOG_MIB.to_string(), seconds.to_string());
    ["/init", "hog", "--mib", &mib, "--seconds", &seconds]
        .map(str::to_owned)
        .to_vec()
}

/// The sum of the kernel's counters with this name, whatever they are split by.
fn vmstat(guest: &mut Guest, name: &str) -> Result<u64> {
    let text = read(guest, "/proc/vmstat")?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let found = lines.find(|(counter, _)| *counter == name);
    let (_, value) = found.with_context(|| format!("/proc/vmstat has no {name}"))?;
    Ok(value.parse()?)
}
