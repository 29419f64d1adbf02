// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Syncs that fail.

use std::fs::File;
use std::io::Write;

use anyhow::{Result, ensure};
use guest_agent::pattern::BLOCK;
use guest_agent::wire::OnError;

use super::subject::Subject;
use crate::inside::context::Context;
use crate::inside::disk::{Backing, HostFs, Table, ThinPool};
use crate::inside::guest::SHORT;
use crate::inside::wait;
use crate::scenarios::support::{DATA_BYTES, STOP, raw_load, value};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
/// Flushes that have to fail, one after the other.
const MANY: u64 = 20;
/// What is left in the thin pool when the load goes on.
const LEFT: u64 = 512 << 10;
/// A block that nobody has written before.
const FRESH: u64 = 8192;

fn subject(context: &mut Context) -> Result<Subject> {
    let backing = context.backing("data", HostFs::Ext4, DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    Subject::boot(context, backing, data)
}

/// `fault-eio-once`.
pub fn eio_once(context: &mut Context) -> Result<()> {
    let mut subject = subject(context)?;
    subject.load(context, |_| {})?;
    context.step("one sync fails");
    subject.backing.disk(Table::FailWrites)?;
    subject.flush_failed(context)?;
    subject.backing.disk(Table::Plain)?;
    subject.event_has(EIO)?;
    subject.latched(context)?;
    subject.later_flush_fails(context)?;
    subject.managed_to_its_end(context)?;
    subject.comes_back(context)
}

/// `fault-eio-for-ever`.
pub fn eio_for_ever(context: &mut Context) -> Result<()> {
    let mut subject = subject(context)?;
    subject.load(context, |spec| {
        spec.on_error = OnError::GoOn;
        spec.pace_us = 20_000;
    })?;
    context.step("every sync fails");
    subject.backing.disk(Table::FailWrites)?;
    subject.flush_failed(context)?;
    wait::until("many failed flushes", SHORT, || {
        let errors = value(&subject.guest.counters("data")?, "errors")?;
        Ok((errors >= MANY).then_some(()))
    })?;
    let acked = subject.acks.fsyncs()?;
    let report = subject.guest.load_stop("load", STOP)?;
    subject.told(context, &report)?;
    ensure!(
        subject.acks.fsyncs()? == acked && report.errors >= MANY,
        "a flush succeeded on a disk that takes no write"
    );
    subject.event_has(EIO)?;
    subject.managed_to_its_end(context)?;
    subject.backing.disk(Table::Plain)?;
    subject.comes_back(context)
}

/// `fault-unplugged`.
pub fn unplugged(context: &mut Context) -> Result<()> {
    let mut subject = subject(context)?;
    subject.load(context, |_| {})?;
    context.step("the disk is gone");
    subject.backing.disk(Table::FailAll)?;
    subject.flush_failed(context)?;
    subject.event_has(EIO)?;
    subject.latched(context)?;
    subject.managed_to_its_end(context)?;
    subject.backing.disk(Table::Plain)?;
    subject.comes_back(context)
}

/// `fault-enospc`: the filesystem has room, the thin pool below it has none.
pub fn enospc(context: &mut Context) -> Result<()> {
    let mut pool = ThinPool::new(context.scratch(), DATA_BYTES, 3 * DATA_BYTES)?;
    let backing = Backing::on(pool.volume(), "data", HostFs::Ext4)?;
    // Reserved in the filesystem; the pool hears of each block when it is first written.
    let data = backing.reserved_file("pmem.img", DATA_BYTES)?;
    let ballast = backing.path().join("ballast");
    let mut subject = Subject::boot(context, backing, data)?;
    subject.load(context, |_| {})?;
    context.step("fill the pool");
    let mut file = File::create(&ballast)?;
    while pool.free()? > LEFT {
        file.write_all(&vec![1; 256 << 10])?;
        if file.sync_data().is_err() {
            break;
        }
    }
    drop(file);
    context.step("write more than the pool has left");
    let mut spec = raw_load(context, "#0", 1, "#1", 0);
    spec.ack = None;
    spec.first_block = FRESH;
    spec.blocks_per_thread = 8 * LEFT / u64::try_from(BLOCK)?;
    subject.guest.load_start("more", spec)?;
    subject.flush_failed(context)?;
    subject.event_has(ENOSPC)?;
    subject.latched(context)?;
    subject.later_flush_fails(context)?;
    subject.managed_to_its_end(context)?;
    context.step("the pool grows");
    pool.grow()?;
    let end = subject.comes_back(context);
    // Above the pool: it goes first.
    drop(subject);
    end
}

/// `fault-read-only`: the backing filesystem finds an error in itself and stops writing.
pub fn read_only(context: &mut Context) -> Result<()> {
    let mut subject = subject(context)?;
    subject.load(context, |_| {})?;
    context.step("the filesystem turns read-only");
    subject.backing.turn_read_only()?;
    subject.flush_failed(context)?;
    subject.event_has(EROFS)?;
    subject.latched(context)?;
    subject.managed_to_its_end(context)?;
    subject.comes_back(context)
}
