// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A snapshot and its file belong together.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::inside::acks::Acks;
use crate::inside::command::run as tool;
use crate::inside::context::Context;
use crate::inside::disk::HostFs;
use crate::inside::guest::SHORT;
use crate::inside::machine::{Capability, Pmem, Restore, refusal};
use crate::scenarios::support::{DATA_BYTES, STOP, no_errors, raw_load, verified};

/// Syncs after the snapshot that make the file move on.
const MOVE_ON: u64 = 5;

/// `stale-file`.
pub fn run(context: &mut Context) -> Result<()> {
    context.needs(&[Capability::Snapshot, Capability::StaleCheck])?;
    let backing = context.backing("data", HostFs::Ext4, 4 * DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    let ack = context.ack()?;
    let acks = Acks::new(&ack.file, 0);
    let files = [data.clone(), ack.file.clone()];
    let devices = vec![Pmem::new("data", &data), ack];
    let mut guest = context.boot(devices.clone())?;
    guest.devices(2)?;
    guest.load_start("load", raw_load(context, "#0", 2, "#1", 0))?;
    acks.go_on(MOVE_ON, SHORT)?;

    context.step("snapshot, and a copy of the files while paused");
    guest.pause()?;
    let folder = context.snapshot_folder("snapshot")?;
    guest.snapshot(&folder)?;
    for file in &files {
        copy(file, &aside(file, "kept"), true)?;
        copy(file, &aside(file, "untimed"), false)?;
    }
    guest.resume()?;
    acks.go_on(MOVE_ON, SHORT)?;
    guest.kill()?;

    context.step("the file has moved on: refused");
    // The control: a restore that does not look.
    let strict = Restore {
        allow_stale: context.is_control(),
        from: folder.clone(),
    };
    let text = refusal(
        guest.restore_beside(&strict),
        "a restore with a stale file",
        "stale",
    )?;
    context.measure("stale_refusal", text.lines().last().unwrap_or_default());

    context.step("the override lets it start");
    guest.restore(&Restore {
        allow_stale: true,
        from: folder,
    })?;
    guest.resume()?;
    ensure!(
        guest.machine().state()? == "Running",
        "restored with the override, but not running"
    );

    context.step("a second VM on the same file: refused");
    let second = context.boot(devices).map(drop);
    let text = refusal(second, "a second VM on the same file", "locked")?;
    context.measure("lock_refusal", text.lines().last().unwrap_or_default());
    guest.machine().alive()?;
    guest.kill()?;

    context.step("a copy that lost its times: refused");
    for file in &files {
        fs::rename(aside(file, "untimed"), file)?;
    }
    refusal(
        guest.restore_beside(&strict),
        "a restore with an untimed copy",
        "stale",
    )?;

    context.step("the copy made while paused: accepted");
    for file in &files {
        fs::rename(aside(file, "kept"), file)?;
    }
    guest.restore(&strict)?;
    verified(&files[0], &files[1], 0)?;
    guest.resume()?;
    acks.go_on(MOVE_ON, Duration::from_secs(60))?;
    let report = guest.load_stop("load", STOP)?;
    no_errors(&report)?;
    guest.is_well()?;
    guest.machine().shutdown(SHORT)?;
    let found = verified(&files[0], &files[1], 0)?;
    ensure!(
        found.fsyncs == report.fsyncs,
        "the acks count {} fsyncs: {report:?}",
        found.fsyncs
    );
    context.measure("acked_writes_verified", found.acked_writes);
    Ok(())
}

fn aside(file: &Path, name: &str) -> PathBuf {
    file.with_extension(name)
}

fn copy(from: &Path, to: &Path, times: bool) -> Result<()> {
    let names = [from, to].map(|path| path.display().to_string());
    let preserve = if times {
        "--preserve=timestamps"
    } else {
        "--no-preserve=timestamps"
    };
    tool("cp", &[preserve, &names[0], &names[1]]).map(drop)
}
