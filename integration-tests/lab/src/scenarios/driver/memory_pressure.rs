// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! fsync while the guest reclaims memory, and swaps to a device of the same driver.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use guest_agent::wire::{Filesystem, LoadKind};

use crate::inside::acks::Acks;
use crate::inside::context::Context;
use crate::inside::disk::{HostFs, ReadOnly, Table};
use crate::inside::driver::{Bound, boot, boot_faulty};
use crate::inside::guest::SHORT;
use crate::inside::machine::Pmem;
use crate::inside::wait;
use crate::job::Driver;
use crate::scenarios::driver::pressure::Pressure;
use crate::scenarios::support::{DATA_BYTES, STOP, acked, no_errors, verified};

/// What a flush of the disk takes.
const COST_MS: u32 = 20;
const THREADS: u32 = 4;
/// Syncs that must come through while memory is short, and when.
const SYNCS: u64 = 200;
const WITHIN: Duration = Duration::from_secs(180);
const DIR: &str = "/mnt/data/files";
const MOUNT: &str = "/mnt/data";

/// `memory-pressure`.
pub fn run(context: &mut Context) -> Result<()> {
    let syncs = context.number("syncs", SYNCS)?;
    let backing = context.backing("data", HostFs::Ext4, DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    let (room, swap) = Pressure::device(context)?;
    let ack = context.ack()?;
    let acks = Acks::new(&ack.file, 0);
    let pmem = vec![Pmem::new("data", &data), ack, swap];
    let mut guest = match context.trial.options.get("driver_fault") {
        Some(fault) => boot_faulty(context, pmem, fault)?,
        None => boot(context, pmem, "")?,
    };
    let swap = Pressure::swap_on(&mut guest, 2)?;
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

    let mut pressure = Pressure::start(context, &mut guest, (room, swap))?;
    let enough = acks.fsyncs()? + syncs;
    let mut asked = Instant::now();
    let is_over = || {
        let mut is_over = acks.fsyncs()? >= enough;
        // Errors end it, too; each answer of the guest costs it an exit for every byte.
        if !is_over && asked.elapsed() > Duration::from_secs(2) {
            is_over = guest.load_status("load")?.errors > 0;
            asked = Instant::now();
        }
        Ok(is_over.then_some(()))
    };
    wait::until("more acked syncs", WITHIN, is_over)
        .context("the fsyncs don't get through while memory is short")?;
    pressure.lasts(&mut guest)?;
    pressure.finish(context, &mut guest)?;

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
