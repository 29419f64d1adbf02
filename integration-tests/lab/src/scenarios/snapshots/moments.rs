// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Snapshots when they are least welcome: after a drain that timed out, onto a full disk,
//! when the file cannot be synced, and when the device waits for its reset.

use std::fs::{File, remove_dir_all};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use guest_agent::hostile::HOLD;
use guest_agent::pattern::BLOCK;
use guest_agent::wire::{HostileTarget, Outcome, Step};

use crate::inside::acks::Acks;
use crate::inside::command::{ask, run as tool};
use crate::inside::context::Context;
use crate::inside::disk::{HostFs, Table};
use crate::inside::events;
use crate::inside::guest::{Guest, SHORT};
use crate::inside::machine::{Capability, Pmem, Restore, refusal};
use crate::scenarios::support::{
    DATA_BYTES, STOP, answered_once, no_errors, pause_times_out, raw_load, value, verified,
};

/// Syncs that show that the guest goes on.
const GO_ON: u64 = 5;
/// A block that no load touches.
const QUIET_BLOCK: u64 = 8000;
/// Room on the disk that is too small for a snapshot.
const TOO_SMALL: &str = "size=8M";
/// DEVICE_NEEDS_RESET.
const NEEDS_RESET: u8 = 0x40;

/// `snapshot-moments`.
pub fn run(context: &mut Context) -> Result<()> {
    context.needs(&[Capability::Snapshot, Capability::DrainTimeout])?;
    let backing = context.backing("data", HostFs::Ext4, DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    let ack = context.ack()?;
    let acks = Acks::new(&ack.file, 0);
    let device = Pmem {
        drain_timeout: Some(1),
        ..Pmem::new("data", &data)
    };
    let mut guest = context.boot(vec![device, ack])?;
    guest.devices(2)?;
    let before = guest.counters("data")?;
    guest.load_start("load", raw_load(context, "#0", 4, "#1", 0))?;
    acks.go_on(GO_ON, SHORT)?;

    context.step("a drain that timed out, then a snapshot");
    pause_times_out(&mut guest, "data", &backing)?;
    acks.go_on(GO_ON, SHORT)?;
    guest.pause()?;
    verified(&data, &acks.file, 0)?;
    snapshot_and_restore(context, &mut guest)?;
    acks.go_on(GO_ON, SHORT)?;

    context.step("a snapshot onto a disk that is too small, then a good one");
    guest.pause()?;
    write_fails(context, &mut guest)?;
    guest.resume()?;
    acks.go_on(GO_ON, SHORT)?;
    guest.pause()?;
    snapshot_and_restore(context, &mut guest)?;
    acks.go_on(GO_ON, SHORT)?;
    let report = guest.load_stop("load", STOP)?;
    no_errors(&report)?;
    let after = guest.counters("data")?;
    answered_once(context, report.fsyncs, &before, &after)?;
    let found = verified(&data, &acks.file, 0)?;
    ensure!(found.fsyncs == report.fsyncs, "an fsync was not acked");
    context.measure("acked_blocks_verified", found.acked);

    context.step("a snapshot whose sync fails, and one after that");
    guest.pause()?;
    // Something to write, so that the sync has work to fail at.
    let file = File::options().write(true).open(&data)?;
    file.write_all_at(&[1; BLOCK], QUIET_BLOCK * u64::try_from(BLOCK)?)?;
    drop(file);
    backing.disk(Table::FailWrites)?;
    refused(context, &mut guest, "sync_fails", "can't be synced")?;
    backing.disk(Table::Plain)?;
    refused(context, &mut guest, "latched", "latched")?;
    guest.resume()?;
    guest.is_well()?;
    guest.machine().shutdown(SHORT)
}

/// The paused guest goes on in a new process.
fn snapshot_and_restore(context: &Context, guest: &mut Guest) -> Result<()> {
    let parked = guest.counters("data")?;
    ensure!(
        value(&parked, "in_flight")? == 0,
        "paused with a request popped and not answered: {parked:?}"
    );
    let from = context.snapshot_folder("snapshot")?;
    guest.snapshot(&from)?;
    guest.kill()?;
    guest.restore(&Restore {
        allow_stale: false,
        from: from.clone(),
    })?;
    guest.resume()?;
    Ok(remove_dir_all(from)?)
}

/// The disk for the snapshot is full before it is written.
fn write_fails(context: &Context, guest: &mut Guest) -> Result<()> {
    let folder = context.snapshot_folder("small")?;
    let at = folder.display().to_string();
    // The control: a disk that is large enough.
    let size = if context.is_control() {
        "size=1G"
    } else {
        TOO_SMALL
    };
    tool("mount", &["-t", "tmpfs", "-o", size, "tmpfs", &at])?;
    let end = refused_into(context, guest, &folder, "disk_full", "no space left");
    ask("umount", &[&at])?;
    end
}

fn refused(context: &Context, guest: &mut Guest, name: &str, word: &str) -> Result<()> {
    let folder = context.snapshot_folder("refused")?;
    refused_into(context, guest, &folder, name, word)
}

/// The snapshot is refused by name, leaves nothing behind, and the VM stays as it was.
fn refused_into(
    context: &Context,
    guest: &mut Guest,
    folder: &Path,
    name: &str,
    word: &str,
) -> Result<()> {
    let what = format!("a snapshot ({name})");
    let text = refusal(guest.snapshot(folder), &what, word)?;
    context.measure(&format!("refusal_{name}"), text);
    let left: Vec<_> = folder.read_dir()?.flatten().collect();
    if !left.is_empty() {
        bail!("{} holds a half snapshot: {left:?}", folder.display());
    }
    let state = guest.machine().state()?;
    ensure!(state == "Paused", "after {what} the VM is {state}");
    Ok(())
}

/// `snapshot-needs-reset`: the device waits for its reset before and after.
pub fn needs_reset(context: &mut Context) -> Result<()> {
    context.needs(&[Capability::Snapshot])?;
    let backing = context.backing("data", HostFs::Ext4, DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    let mut guest = context.boot_with(vec![Pmem::new("data", &data)], "none")?;
    context.step("a bad ring, and no reset after it");
    let order = guest.start_order(Step::Hostile {
        case: "head-out-of-range".to_owned(),
        target: HostileTarget::Index(0),
        bound_ms: 5_000,
        hold: true,
    })?;
    let log = guest.machine().events().context("no event log")?.to_owned();
    events::wait_for(&log, "data", "needs-reset", SHORT)?;

    context.step("snapshot and restore");
    guest.pause()?;
    snapshot_and_restore(context, &mut guest)?;

    context.step("the guest sees the same state, and resets");
    guest.done(Step::Write {
        path: HOLD.to_owned(),
        text: "x".to_owned(),
    })?;
    let report = match guest.finish_order(order, SHORT)? {
        Outcome::Hostile(report) => report,
        other => bail!("the guest answered {other:?} instead of a hostile report"),
    };
    ensure!(
        report.needs_reset,
        "no NEEDS_RESET to begin with: {report:?}"
    );
    ensure!(
        report
            .status_after_hold
            .is_some_and(|status| status & NEEDS_RESET != 0),
        "NEEDS_RESET did not come over the snapshot: {report:?}"
    );
    ensure!(report.recovered, "no flush after a reset: {report:?}");
    ensure!(report.ok, "not as it must be: {}", report.note);
    context.measure("status_after_restore", report.status_after_hold);
    guest.pause()?;
    guest.resume()?;
    guest.is_well()?;
    guest.machine().shutdown(SHORT)
}
