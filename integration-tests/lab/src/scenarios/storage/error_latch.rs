// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! After one failed sync nothing is promised any more.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use guest_agent::pattern::{self, BLOCK};
use guest_agent::wire::{Device, LoadKind, LoadReport, LoadSpec, Step};

use crate::inside::context::Context;
use crate::inside::disk::{Backing, HostFs, OnDisk, Table};
use crate::inside::events;
use crate::inside::guest::{Guest, SHORT};
use crate::inside::machine::{Capability, Pmem, refusal};
use crate::scenarios::support::{DATA_BYTES, ms, no_errors, value};

/// Blocks that are written before the sync that fails.
const FAILED: u64 = 8;
/// Their place on the device; no other load writes there.
const FAILED_AT: u64 = 1024;
const EIO: i32 = 5;

/// `error-latch-ext4`.
pub fn ext4(context: &mut Context) -> Result<()> {
    run(context, HostFs::Ext4)
}

/// `error-latch-ext4-no-journal`.
pub fn ext4_no_journal(context: &mut Context) -> Result<()> {
    run(context, HostFs::Ext4NoJournal)
}

/// `error-latch-xfs`.
pub fn xfs(context: &mut Context) -> Result<()> {
    run(context, HostFs::Xfs)
}

/// `error-latch-reboot`.
pub fn reboot(context: &mut Context) -> Result<()> {
    context.needs(&[Capability::SyncError])?;
    let seed = context.trial.seed;
    // A journal that cannot be written may turn the filesystem read-only: then the VMM cannot open
    // the file again, and ends.
    let Latched { mut guest, .. } = latched(context, HostFs::Ext4NoJournal)?;
    failed(&one_sync(&mut guest, "before", 2 * FAILED_AT, seed)?)?;

    context.step("reboot the guest");
    guest.reboot()?;
    guest.devices(1)?;
    failed(&one_sync(&mut guest, "rebooted", 2 * FAILED_AT, seed)?)?;
    ensure!(
        value(&guest.counters("data")?, "latched")? == 1,
        "the device after the reboot is not latched"
    );
    let log = guest.machine().events().context("no event log")?.to_owned();
    let events = events::read(&log)?;
    let told = events::of_device(&events, "data", "latched").count();
    ensure!(told == 2, "`latched` was reported {told} times");
    guest.is_well()
}

/// A guest whose device is latched, on a disk that is good again.
struct Latched {
    backing: Backing,
    data: PathBuf,
    found: Vec<Device>,
    guest: Guest,
}

fn latched(context: &mut Context, fs: HostFs) -> Result<Latched> {
    let seed = context.trial.seed;
    let backing = context.backing("data", fs, DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    let device = Pmem {
        // The control: a failure is told once.
        sync_error: Some(if context.is_control() {
            "report"
        } else {
            "latch"
        }),
        ..Pmem::new("data", &data)
    };
    let mut guest = context.boot(vec![device])?;
    let found = guest.devices(1)?;
    ensure!(
        value(&guest.counters("data")?, "latched")? == 0,
        "latched before anything failed"
    );
    no_errors(&one_sync(&mut guest, "good", 0, seed)?)?;

    context.step("the disk fails");
    backing.disk(Table::FailWrites)?;
    let begun = Instant::now();
    failed(&one_sync(&mut guest, "failing", FAILED_AT, seed)?)?;
    backing.disk(Table::Plain)?;
    context.measure("disk_failed_for_ms", ms(begun.elapsed()));
    ensure!(
        value(&guest.counters("data")?, "latched")? == 1,
        "a failed sync did not latch"
    );
    let log = guest.machine().events().context("no event log")?.to_owned();
    events::wait_for(&log, "data", "latched", SHORT)?;
    Ok(Latched {
        backing,
        data,
        found,
        guest,
    })
}

fn run(context: &mut Context, fs: HostFs) -> Result<()> {
    context.needs(&[Capability::SyncError, Capability::Snapshot])?;
    let seed = context.trial.seed;
    let Latched {
        backing,
        data,
        found,
        mut guest,
    } = latched(context, fs)?;

    context.step("the disk is good again, flushes still fail");
    failed(&one_sync(&mut guest, "after", 2 * FAILED_AT, seed)?)?;

    context.step("unbind and bind the driver");
    let device = &found[0];
    let driver = device.driver.as_deref().context("no driver is bound")?;
    for action in ["unbind", "bind"] {
        guest.done(Step::Write {
            path: format!("/sys/bus/virtio/drivers/{driver}/{action}"),
            text: device.virtio.clone(),
        })?;
    }
    guest.devices(1)?;
    failed(&one_sync(&mut guest, "rebound", 2 * FAILED_AT, seed)?)?;
    let counters = guest.counters("data")?;
    context.measure("flushes_failed", value(&counters, "errors")?);

    context.step("pause works, a snapshot is refused");
    guest.pause().context("a latched device must pause")?;
    let folder = context.snapshot_folder("snapshot")?;
    let refused = refusal(
        guest.snapshot(&folder),
        "a snapshot with a latched device",
        "latched",
    )?;
    context.measure("snapshot_refusal", refused);
    let folder = context.snapshot_folder("unsynced")?;
    guest
        .machine()
        .snapshot(&folder, true)
        .context("with allow_unsynced_pmem")?;
    guest.resume()?;
    guest.is_well()?;
    guest.kill()?;

    context.step("what reached the disk");
    context.measure("failed_pages", FAILED);
    let cached = ours(&data, seed)?;
    context.measure("failed_pages_in_page_cache", cached);
    let stored = on_disk(&backing, &data, seed)?;
    context.measure("failed_pages_on_disk", stored);
    let synced = File::options()
        .write(true)
        .open(&data)
        .and_then(|file| file.sync_all());
    let said = synced
        .as_ref()
        .map_or_else(ToString::to_string, |()| "0".into());
    context.measure("later_host_fsync", &said);
    let later = on_disk(&backing, &data, seed)?;
    context.measure("failed_pages_on_disk_after_later_fsync", later);
    let read_only = backing.is_read_only()?;
    context.measure("backing_turned_read_only", read_only);
    // What docs/faults.md says of the host's kernel, and why there is a latch at all.
    ensure!(
        (cached, stored, later) == (FAILED, 0, 0),
        "of {FAILED} blocks whose sync failed {cached} are in the page cache, {stored} on the disk, \
         {later} after a later fsync"
    );
    ensure!(
        synced.is_ok() || read_only,
        "the host's later fsync says {said}"
    );
    Ok(())
}

/// Writes [`FAILED`] blocks and syncs once.
fn one_sync(guest: &mut Guest, name: &str, first_block: u64, seed: u64) -> Result<LoadReport> {
    let kind = LoadKind::Raw {
        device: "#0".to_owned(),
    };
    let mut spec = LoadSpec::new(kind, 1, FAILED, seed);
    spec.first_block = first_block;
    spec.syncs_per_thread = 1;
    spec.writes_per_sync = u32::try_from(FAILED)?;
    guest.load_start(name, spec)?;
    guest.load_wait(name, Duration::from_secs(60))
}

/// The guest was told, by EIO and nothing else.
fn failed(report: &LoadReport) -> Result<()> {
    let errnos: Vec<_> = report
        .threads
        .iter()
        .flat_map(|thread| &thread.errors)
        .collect();
    if report.fsyncs > 0 {
        bail!(
            "the load `{}`: a flush was answered with success",
            report.name
        );
    }
    ensure!(
        !errnos.is_empty() && errnos.iter().all(|one| one.errno == EIO),
        "the load `{}` met {errnos:?} instead of EIO",
        report.name
    );
    Ok(())
}

/// How many of the failed blocks the disk holds.
fn on_disk(backing: &Backing, data: &Path, seed: u64) -> Result<u64> {
    let disk = OnDisk::new("on-disk", backing.piece(), data)?;
    ours(disk.path(), seed)
}

/// How many of the failed blocks `path` holds.
fn ours(path: &Path, seed: u64) -> Result<u64> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(FAILED_AT * u64::try_from(BLOCK)?))?;
    let mut count = 0;
    let mut block = [0; BLOCK];
    for _ in 0..FAILED {
        file.read_exact(&mut block)
            .with_context(|| format!("cannot read {}", path.display()))?;
        count += u64::from(pattern::tag(&block).is_some_and(|tag| tag.seed == seed));
    }
    Ok(count)
}
