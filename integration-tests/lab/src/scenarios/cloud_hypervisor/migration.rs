// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A running guest goes to another process of the same host.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::inside::acks::Acks;
use crate::inside::context::Context;
use crate::inside::disk::{HostFs, OnDisk, Table};
use crate::inside::guest::{Guest, SHORT};
use crate::inside::machine::{Capability, Pmem, refusal};
use crate::inside::wait;
use crate::scenarios::support::{
    DATA_BYTES, STOP, all_verified, answered_once, ms, no_errors, raw_load, value, verified,
};

/// What a flush of the disk takes: the pause in a migration meets one in flight.
const COST_MS: u32 = 50;
/// Migrations.
const ROUNDS: u64 = 3;
/// Syncs between them.
const SOME: u64 = 20;
const THREADS: u32 = 4;

/// `live-migration`.
pub fn under_load(context: &mut Context) -> Result<()> {
    context.needs(&[Capability::Migration])?;
    let rounds = context.number("rounds", ROUNDS)?;
    let backing = context.backing("data", HostFs::Ext4, 3 * DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    let ack = context.ack()?;
    let ack_file = ack.file.clone();
    let acks = Acks::new(&ack_file, 0);
    let mut guest = context.boot(vec![Pmem::new("data", &data), ack])?;
    guest.devices(2)?;
    let before = guest.machine().counters("data")?;
    backing.disk(Table::FlushCost(COST_MS))?;
    guest.load_start("load", raw_load(context, "#0", THREADS, "#1", 0))?;

    let mut longest = Duration::ZERO;
    for round in 1..=rounds {
        context.step(&format!("migration: {round} of {rounds}"));
        acks.go_on(SOME, SHORT)?;
        longest = longest.max(guest.migrate()?);
        running(&mut guest)?;
        // Not only in the page cache: the acked blocks are on the disk.
        guest.pause()?;
        let disk = OnDisk::new("on-disk", backing.piece(), &data)?;
        verified(disk.path(), &ack_file, 0)?;
        drop(disk);
        guest.resume()?;
    }
    context.measure("migrations", rounds);
    context.measure("migration_ms_max", ms(longest));

    context.step("stop the load and count");
    acks.go_on(SOME, SHORT)?;
    let report = guest.load_stop("load", STOP)?;
    no_errors(&report)?;
    if let (Some(before), Some(after)) = (before, guest.machine().counters("data")?) {
        ensure!(
            value(&after, "errors")? == 0,
            "the device counts errors: {after:?}"
        );
        answered_once(context, report.fsyncs, &before, &after)?;
    }
    backing.disk(Table::Plain)?;
    guest.is_well()?;
    guest.machine().shutdown(SHORT)?;
    let found = all_verified(&data, &ack_file, &report)?;
    context.measure("acked_writes_verified", found.acked_writes);
    Ok(())
}

/// `migration-refused`.
pub fn refused(context: &mut Context) -> Result<()> {
    context.needs(&[Capability::Migration, Capability::SyncError])?;
    let backing = context.backing("data", HostFs::Ext4, 3 * DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    let ack = context.ack()?;
    let ack_file = ack.file.clone();
    let acks = Acks::new(&ack_file, 0);
    let devices = vec![Pmem::new("data", &data), ack];
    let mut guest = context.boot(devices.clone())?;
    guest.devices(2)?;
    guest.load_start("load", raw_load(context, "#0", 2, "#1", 0))?;
    acks.go_on(SOME, SHORT)?;

    context.step("a sync fails, and the device latches");
    backing.disk(Table::FailWrites)?;
    wait::until("the latch", SHORT, || {
        let latched = value(&guest.counters("data")?, "latched")?;
        Ok((latched == 1).then_some(()))
    })?;
    let report = guest.load_stop("load", STOP)?;
    ensure!(report.errors > 0, "the guest was not told: {report:?}");
    backing.disk(Table::Plain)?;

    context.step("a migration: refused, and the guest goes on");
    let said = guest.migrate_in_vain()?;
    context.measure("receiver_says", said);
    running(&mut guest)?;
    guest.machine().alive()?;
    guest.devices(2).context("after the refused migration")?;

    context.step("a second VM on the same file: refused");
    let text = refusal(
        context.boot(devices).map(drop),
        "a second VM on the same file",
        "locked",
    )?;
    context.measure("lock_refusal", text.lines().last().unwrap_or_default());

    context.step("pause and resume as before");
    guest.pause()?;
    guest.resume()?;
    guest.is_well()?;
    guest.machine().shutdown(SHORT)
}

fn running(guest: &mut Guest) -> Result<()> {
    wait::until("a guest that runs", SHORT, || {
        Ok((guest.machine().state()? == "Running").then_some(()))
    })
}
