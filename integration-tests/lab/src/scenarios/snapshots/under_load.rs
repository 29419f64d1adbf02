// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Live snapshots while flushes are in flight.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use guest_agent::wire::{Filesystem, LoadKind};

use crate::inside::context::Context;
use crate::inside::disk::{HostFs, OnDisk, ReadOnly, Table};
use crate::inside::guest::{Guest, SHORT};
use crate::inside::machine::{Capability, Pmem, Restore};
use crate::inside::wait;
use crate::scenarios::support::{
    DATA_BYTES, STOP, acked, answered_once, ms, no_errors, pause_observed, pause_observed_by,
    raw_load, value, verified,
};

/// What a flush of the disk takes.
const COST_MS: u32 = 50;
/// The same for the control, which looks twice at one flush.
const CONTROL_COST_MS: u32 = 1_000;
/// Rounds of each of the two kinds.
const ROUNDS: u64 = 10;
/// Of ten pauses so many must meet a flush in flight, or the run shows nothing.
const MET_OF_TEN: u64 = 8;
const DIR: &str = "/mnt/data/files";
const MOUNT: &str = "/mnt/data";
const THREADS: u32 = 4;

/// `snapshot-under-load`.
pub fn raw(context: &mut Context) -> Result<()> {
    run(context, false)
}

/// `snapshot-under-load-ext4`.
pub fn ext4(context: &mut Context) -> Result<()> {
    run(context, true)
}

fn run(context: &mut Context, in_files: bool) -> Result<()> {
    context.needs(&[Capability::Snapshot])?;
    let rounds = context.number("rounds", ROUNDS)?;
    let backing = context.backing("data", HostFs::Ext4, 3 * DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    let ack = context.ack()?;
    let ack_file = ack.file.clone();
    let mut guest = context.boot(vec![Pmem::new("data", &data), ack])?;
    guest.devices(2)?;
    let spec = if in_files {
        let mkfs_rc = guest.mkfs(Filesystem::Ext4, "#0")?;
        ensure!(mkfs_rc == 0, "mkfs ended with {mkfs_rc}");
        guest.mount(Filesystem::Ext4, "#0", MOUNT, false)?;
        let kind = LoadKind::File {
            dir: DIR.to_owned(),
            append: false,
        };
        acked(context, kind, THREADS, "#1", 0)
    } else {
        raw_load(context, "#0", THREADS, "#1", 0)
    };
    let before = guest.counters("data")?;
    backing.disk(Table::FlushCost(if context.is_control() {
        CONTROL_COST_MS
    } else {
        COST_MS
    }))?;
    guest.load_start("load", spec)?;

    let mut met = [0; 2];
    let mut longest = Duration::ZERO;
    for (kind, name) in ["pause, snapshot, resume", "pause, snapshot, kill, restore"]
        .into_iter()
        .enumerate()
    {
        for round in 1..=rounds {
            context.step(&format!("{name}: {round} of {rounds}"));
            more_flushes(&mut guest)?;
            let pause = if context.is_control() {
                pause_observed_by(|_| Ok(Duration::ZERO), &mut guest, "data")?
            } else {
                pause_observed(&mut guest, "data")?
            };
            met[kind] += u64::from(pause.met);
            longest = longest.max(pause.took);
            let one_sync = Duration::from_micros(value(&pause.parked, "sync_time_us_max")?);
            ensure!(
                pause.took <= one_sync + context.slack(),
                "a pause took {} ms, the longest sync {} ms",
                ms(pause.took),
                ms(one_sync)
            );
            if !in_files {
                verified(&data, &ack_file, 0)?;
                // Not only in the page cache: the acked blocks are on the disk.
                let disk = OnDisk::new("on-disk", backing.piece(), &data)?;
                verified(disk.path(), &ack_file, 0)?;
            }
            let folder = context.snapshot_folder("snapshot")?;
            guest.snapshot(&folder)?;
            if kind == 1 {
                guest.kill()?;
                if in_files && round == rounds {
                    // The file as the snapshot has it, after its journal was replayed.
                    let files = ReadOnly::mount(&data, true)?;
                    verified(&files.path().join("files"), &ack_file, 0)?;
                }
                guest.restore(&Restore {
                    allow_stale: false,
                    from: folder.clone(),
                })?;
                let restored = guest.counters("data")?;
                for counter in ["flushes", "errors", "in_flight"] {
                    let (then, now) = (value(&pause.parked, counter)?, value(&restored, counter)?);
                    ensure!(
                        then == now,
                        "`{counter}` was {then} and is {now} after the restore"
                    );
                }
            }
            guest.resume()?;
            fs::remove_dir_all(folder)?;
        }
    }
    context.measure("pauses", 2 * rounds);
    context.measure("pauses_with_a_flush_in_flight", met[0] + met[1]);
    context.measure("pause_ms_max", ms(longest));
    for met in met {
        ensure!(
            met * 10 >= rounds * MET_OF_TEN,
            "the run does not count: only {met} of {rounds} pauses met a flush in flight"
        );
    }

    context.step("stop the load and count");
    let report = guest.load_stop("load", STOP)?;
    no_errors(&report)?;
    let after = guest.counters("data")?;
    ensure!(
        value(&after, "errors")? == 0,
        "the device counts errors: {after:?}"
    );
    if in_files {
        context.measure("guest_fsyncs", report.fsyncs);
        guest.umount(MOUNT)?;
        let fsck_rc = guest.fsck(Filesystem::Ext4, "#0")?;
        context.measure("fsck_rc", fsck_rc);
        ensure!(fsck_rc == 0, "fsck ended with {fsck_rc}");
    } else {
        answered_once(context, report.fsyncs, &before, &after)?;
    }
    backing.disk(Table::Plain)?;
    guest.is_well()?;
    guest.machine().shutdown(SHORT)?;
    let found = if in_files {
        let files = ReadOnly::mount(&data, false)?;
        verified(&files.path().join("files"), &ack_file, 0)?
    } else {
        verified(&data, &ack_file, 0)?
    };
    ensure!(
        found.fsyncs == report.fsyncs,
        "the acks count {} fsyncs: {report:?}",
        found.fsyncs
    );
    context.measure("acked_writes_verified", found.acked_writes);
    context.measure(
        "host_syncs",
        value(&after, "host_syncs")? - value(&before, "host_syncs")?,
    );
    Ok(())
}

/// Waits until the device has answered some more flushes, so that each round
/// meets a load that goes on.
fn more_flushes(guest: &mut Guest) -> Result<()> {
    let from = value(&guest.counters("data")?, "flushes")?;
    wait::until("more flushes", SHORT, || {
        let now = value(&guest.counters("data")?, "flushes")?;
        Ok((now >= from + 4).then_some(()))
    })
}
