// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The file itself goes away.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::subject::Subject;
use crate::inside::command::run;
use crate::inside::context::Context;
use crate::inside::disk::{HostFs, OnDisk};
use crate::inside::guest::SHORT;
use crate::inside::machine::{Capability, Restore, refusal};
use crate::scenarios::support::{DATA_BYTES, STOP, no_errors, verified};

/// Syncs that show that the guest goes on.
const GO_ON: u64 = 20;

/// `fault-unlinked`: a guest does not notice that its file has no name any more, and the
/// file can be had back.
pub fn unlinked(context: &mut Context) -> Result<()> {
    context.needs(&[Capability::Snapshot, Capability::StaleCheck])?;
    let backing = context.backing("data", HostFs::Ext4, 2 * DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    let mut subject = Subject::boot(context, backing, data)?;
    subject.load(context, |_| {})?;
    context.step("remove the file");
    fs::remove_file(&subject.data)?;
    subject.acks.go_on(GO_ON, SHORT)?;

    context.step("snapshot, and save the file while paused");
    subject.guest.pause()?;
    let folder = context.snapshot_folder("snapshot")?;
    subject.guest.snapshot(&folder)?;
    let open = open_file(&subject.data)?;
    let disk = OnDisk::new("removed", subject.backing.piece(), &open)?;
    verified(disk.path(), &subject.acks.file, 0)?;
    drop(disk);
    let saved = subject.data.with_extension("saved");
    let names = [&open, &saved].map(|path| path.display().to_string());
    run(
        "cp",
        &[
            "--dereference",
            "--preserve=timestamps",
            &names[0],
            &names[1],
        ],
    )?;
    subject.guest.kill()?;

    context.step("a restore without the file is refused, with it the guest goes on");
    // The control: the file is back too early.
    if context.is_control() {
        fs::copy(&saved, &subject.data)?;
    }
    let restore = Restore {
        allow_stale: context.is_control(),
        from: folder,
    };
    let text = refusal(
        subject.guest.restore_beside(&restore),
        "a restore without the file",
        "no such file",
    )?;
    ensure!(
        text.contains(&subject.data.display().to_string()),
        "the refusal names another file: {text}"
    );
    context.measure("restore_refusal", text.lines().last().unwrap_or_default());
    fs::rename(&saved, &subject.data)?;
    verified(&subject.data, &subject.acks.file, 0)?;
    subject.guest.restore(&restore)?;
    subject.guest.resume()?;
    subject.acks.go_on(GO_ON, SHORT)?;
    let report = subject.guest.load_stop("load", STOP)?;
    no_errors(&report)?;
    subject.guest.is_well()?;
    subject.shut_down(context)?;
    let found = subject.on_disk(context, DATA_BYTES)?;
    ensure!(
        found.fsyncs == report.fsyncs,
        "the acks count {} fsyncs: {report:?}",
        found.fsyncs
    );
    Ok(())
}

/// The removed file as its process still has it.
fn open_file(path: &Path) -> Result<PathBuf> {
    let gone = format!("{} (deleted)", path.display());
    for process in fs::read_dir("/proc")?.flatten() {
        let Ok(files) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        for file in files.flatten() {
            let target = fs::read_link(file.path()).unwrap_or_default();
            if target == Path::new(&gone) {
                return Ok(file.path());
            }
        }
    }
    None.with_context(|| format!("no process has {gone} open"))
}
