// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A page of the file that cannot be had: no flush could tell the guest, its store or load
//! itself can't be carried out. The VMM has to end in order, and say which file and where.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use guest_agent::pattern::BLOCK;
use guest_agent::wire::{OnError, Step};
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};

use super::subject::Subject;
use crate::inside::context::Context;
use crate::inside::disk::{HostFs, Table};
use crate::inside::events;
use crate::scenarios::support::{DATA_BYTES, ms, raw_load};

/// Where the part that cannot be had begins.
const BAD_FROM: u64 = DATA_BYTES / 2;
/// The VMM must have noticed by then; it looks every second.
const NOTICED: Duration = Duration::from_secs(40);

/// `fault-hole`: the guest writes into a hole, and the disk is full.
pub fn hole(context: &mut Context) -> Result<()> {
    let mut subject = booted(context)?;
    context.step("a hole, and a full disk");
    let file = File::options().write(true).open(&subject.data)?;
    let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let length = i64::try_from(DATA_BYTES - BAD_FROM)?;
    fallocate(&file, punch, i64::try_from(BAD_FROM)?, length)?;
    drop(file);
    let ballast = subject.backing.path().join("ballast");
    fill(&ballast)?;
    touch_bad_part(context, &mut subject)?;
    ended_in_order(context, &mut subject, "disk full")?;
    subject.on_disk(context, BAD_FROM)?;
    context.step("make room");
    fs::remove_file(ballast)?;
    subject.boots_again(context, bad_block()?)
}

/// `fault-truncated`: the file gets shorter under the guest.
pub fn truncated(context: &mut Context) -> Result<()> {
    let mut subject = booted(context)?;
    context.step("the file is truncated");
    let file = File::options().write(true).open(&subject.data)?;
    file.set_len(BAD_FROM)?;
    touch_bad_part(context, &mut subject)?;
    ended_in_order(context, &mut subject, "truncated")?;
    subject.on_disk(context, BAD_FROM)?;
    context.step("make the file as long as it was");
    file.set_len(DATA_BYTES)?;
    subject.boots_again(context, bad_block()?)
}

/// `fault-bad-page`: the guest writes to a page that is not in memory, and the disk cannot read
/// it.
pub fn bad_page(context: &mut Context) -> Result<()> {
    let backing = context.backing("data", HostFs::Ext4, DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    forget(&data)?;
    let mut subject = Subject::boot(context, backing, data)?;
    subject.load(context, |_| {})?;
    subject.guest.load_stop("load", NOTICED)?;
    context.step("a disk that cannot be read");
    subject.backing.disk(Table::FailAll)?;
    touch_bad_part(context, &mut subject)?;
    ended_in_order(context, &mut subject, "cannot read or write")?;
    subject.backing.disk(Table::Plain)?;
    subject.comes_back(context)
}

/// A guest that has only ever touched the file's first half.
fn booted(context: &mut Context) -> Result<Subject> {
    let backing = context.backing("data", HostFs::Ext4, DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    let mut subject = Subject::boot(context, backing, data)?;
    subject.load(context, |spec| spec.syncs_per_thread = 20)?;
    subject.guest.load_wait("load", NOTICED)?;
    Ok(subject)
}

fn bad_block() -> Result<u64> {
    Ok(BAD_FROM / u64::try_from(BLOCK)?)
}

/// A load on the bad part. Its order may never be answered.
fn touch_bad_part(context: &Context, subject: &mut Subject) -> Result<()> {
    context.step("the guest writes there");
    let mut spec = raw_load(context, "#0", 1, "#1", 0);
    spec.ack = None;
    spec.first_block = bad_block()?;
    spec.on_error = OnError::GoOn;
    let name = "bad".to_owned();
    subject.guest.start_order(Step::LoadStart { name, spec })?;
    Ok(())
}

/// The VMM ends by itself, with an error that names file and offset.
fn ended_in_order(context: &Context, subject: &mut Subject, why: &str) -> Result<()> {
    context.step("the VMM notices");
    let begun = Instant::now();
    let code = subject
        .guest
        .machine()
        .wait(NOTICED)
        .context("the guest stands still, and the VMM does not end")?;
    context.measure("noticed_ms", ms(begun.elapsed()));
    ensure!(code == 1, "the VMM ended with code {code} instead of 1");
    let all = events::read(&subject.log()?)?;
    let event = all
        .iter()
        .find(|event| event.source == "vm" && event.event == "failed")
        .context("the VMM says nowhere that the guest failed")?;
    let reason = event.property("reason").unwrap_or_default();
    context.measure("reason", reason);
    let file = subject.data.display().to_string();
    ensure!(
        reason.contains(&file) && reason.contains(why),
        "the VMM gives another reason: {reason}"
    );
    let offset = reason
        .split_once("offset 0x")
        .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_hexdigit()).next())
        .and_then(|digits| u64::from_str_radix(digits, 16).ok());
    match offset {
        // The load begins where the bad part does; one page of it is what fails.
        Some(offset) if offset & !4095 == BAD_FROM => Ok(()),
        other => bail!("the reason names offset {other:x?} instead of {BAD_FROM:#x}: {reason}"),
    }
}

/// Writes until the disk is full.
fn fill(path: &Path) -> Result<()> {
    let mut file = File::create(path)?;
    for size in [1 << 20, 4096] {
        let zeros = vec![0; size];
        loop {
            match file.write_all(&zeros).and_then(|()| file.sync_data()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error).context("cannot fill the disk"),
            }
        }
    }
    Ok(())
}

/// Takes the file out of the page cache.
fn forget(path: &Path) -> Result<()> {
    let file = File::open(path)?;
    file.sync_all()?;
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        .with_context(|| format!("cannot take {} out of the page cache", path.display()))
}
