// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The whole way once, for somebody who wants to see it.

use anyhow::{Result, bail, ensure};
use guest_agent::wire::{Filesystem, LoadKind};

use crate::inside::acks::Acks;
use crate::inside::context::Context;
use crate::inside::disk::{HostFs, ReadOnly, Table};
use crate::inside::guest::{Guest, SHORT};
use crate::inside::machine::{Capability, Pmem, Restore};
use crate::scenarios::support::{
    DATA_BYTES, ObservedPause, STOP, acked, ms, no_errors, pause_observed, value, verified,
};

/// What a flush of the disk takes.
const COST_MS: u32 = 50;
/// Pauses until one meets a flush in flight.
const TRIES: usize = 10;
const DIR: &str = "/mnt/data/files";
const MOUNT: &str = "/mnt/data";
/// Syncs before the snapshot and after the restore.
const SYNCS: u64 = 20;

/// `demo`.
pub fn run(context: &mut Context) -> Result<()> {
    context.needs(&[Capability::Snapshot])?;
    let backing = context.backing("data", HostFs::Ext4, DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    let ack = context.ack()?;
    let acks = Acks::new(&ack.file, 0);
    let mut guest = context.boot(vec![Pmem::new("data", &data), ack])?;
    guest.devices(2)?;

    context.step("mkfs.ext4 and mount");
    let mkfs_rc = guest.mkfs(Filesystem::Ext4, "#0")?;
    context.measure("mkfs_rc", mkfs_rc);
    ensure!(mkfs_rc == 0, "mkfs ended with {mkfs_rc}");
    guest.mount(Filesystem::Ext4, "#0", MOUNT, false)?;
    context.measure("mount_rc", 0);

    context.step("4 threads write and fsync; a flush of the disk takes 50 ms");
    backing.disk(Table::FlushCost(COST_MS))?;
    let kind = LoadKind::File {
        dir: DIR.to_owned(),
        append: false,
    };
    guest.load_start("load", acked(context, kind, 4, "#1", 0))?;
    acks.go_on(SYNCS, SHORT)?;

    context.step("live snapshot");
    let pause = pause_in_flight(&mut guest)?;
    context.measure("flushes_in_flight_at_snapshot", pause.in_flight);
    context.measure("pause_ms", ms(pause.took));
    let folder = context.snapshot_folder("snapshot")?;
    let took = guest.snapshot(&folder)?;
    context.measure("snapshot_ms", ms(took));

    context.step("kill -9, restore in a new process");
    guest.kill()?;
    let took = guest.restore(&Restore {
        allow_stale: false,
        from: folder,
    })?;
    context.measure("restore_ms", ms(took));
    guest.resume()?;
    acks.go_on(SYNCS, SHORT)?;
    let report = guest.load_stop("load", STOP)?;
    no_errors(&report)?;
    let counters = guest.counters("data")?;
    ensure!(
        value(&counters, "errors")? == 0,
        "the device counts errors: {counters:?}"
    );
    context.measure("guest_fsyncs", report.fsyncs);
    context.measure("guest_flushes", value(&counters, "flushes")?);
    context.measure("host_syncs", value(&counters, "host_syncs")?);

    context.step("umount and fsck");
    guest.umount(MOUNT)?;
    context.measure("umount_rc", 0);
    let fsck_rc = guest.fsck(Filesystem::Ext4, "#0")?;
    context.measure("fsck_rc", fsck_rc);
    ensure!(fsck_rc == 0, "fsck ended with {fsck_rc}");
    backing.disk(Table::Plain)?;
    guest.power_off()?;

    context.step("hold the files against the acks");
    let files = ReadOnly::mount(&data, false)?;
    let found = verified(&files.path().join("files"), &acks.file, 0)?;
    ensure!(
        found.fsyncs == report.fsyncs,
        "the acks count {} fsyncs: {report:?}",
        found.fsyncs
    );
    context.measure("acked_writes_verified", found.acked_writes);
    context.measure("acked_blocks_bad", found.bad);
    Ok(())
}

/// Pauses at a moment with a flush in flight.
fn pause_in_flight(guest: &mut Guest) -> Result<ObservedPause> {
    for _ in 0..TRIES {
        let pause = pause_observed(guest, "data")?;
        if pause.met {
            return Ok(pause);
        }
        guest.resume()?;
    }
    bail!("the run does not count: no flush was in flight in {TRIES} pauses")
}
