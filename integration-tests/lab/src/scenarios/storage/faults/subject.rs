// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A guest under load on a disk that is about to break, and what all cases do with it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use guest_agent::verify::Report;
use guest_agent::wire::{LoadReport, LoadSpec};

use crate::inside::acks::Acks;
use crate::inside::context::Context;
use crate::inside::disk::{Backing, OnDisk};
use crate::inside::events;
use crate::inside::guest::{Guest, SHORT};
use crate::inside::machine::{Capability, Pmem, refusal};
use crate::inside::wait;
use crate::scenarios::support::{STOP, ms, no_errors, raw_load, value, verified};

/// What a guest is told of any failed flush.
const EIO: i32 = 5;
/// A management call waits for no storage.
const PROMPT: Duration = Duration::from_secs(10);
/// Of a load, unless it says otherwise.
const THREADS: u32 = 2;
/// Syncs that show that all is well.
const SOME: u64 = 5;

/// The guest, and what it stands on.
pub struct Subject {
    pub acks: Acks,
    pub backing: Backing,
    pub data: PathBuf,
    pub devices: Vec<Pmem>,
    pub guest: Guest,
}

impl Subject {
    /// Boots a guest whose device `data` is the file `data` on `backing`.
    pub fn boot(context: &Context, backing: Backing, data: PathBuf) -> Result<Self> {
        context.needs(&[Capability::SyncError, Capability::DrainTimeout])?;
        let ack = context.ack()?;
        let acks = Acks::new(&ack.file, 0);
        // The control: a failure is told once, as stock devices do.
        let device = Pmem {
            drain_timeout: Some(2),
            sync_error: Some(if context.is_control() {
                "report"
            } else {
                "latch"
            }),
            ..Pmem::new("data", &data)
        };
        let devices = vec![device, ack];
        let mut guest = context.boot(devices.clone())?;
        guest.devices(2)?;
        Ok(Self {
            acks,
            backing,
            data,
            devices,
            guest,
        })
    }

    /// A load that goes on until something breaks; it has begun when this returns.
    pub fn load(&mut self, context: &Context, shape: impl FnOnce(&mut LoadSpec)) -> Result<()> {
        let mut spec = raw_load(context, "#0", THREADS, "#1", 0);
        shape(&mut spec);
        self.guest.load_start("load", spec)?;
        self.acks.go_on(SOME, SHORT)
    }

    /// The VMM's event log.
    pub fn log(&mut self) -> Result<PathBuf> {
        let log = self.guest.machine().events();
        Ok(log.context("the VMM writes no events")?.to_owned())
    }

    /// A flush has failed: waits for that, and checks what the VMM says of it.
    pub fn flush_failed(&mut self, context: &Context) -> Result<()> {
        let log = self.log()?;
        let event = events::wait_for(&log, "data", "flush-failed", SHORT)?;
        for name in ["errno", "error"] {
            let text = event.property(name).context("the event has no errno")?;
            context.measure(&format!("event_{name}"), text);
        }
        Ok(())
    }

    /// The host's errno in the event is this one.
    pub fn event_has(&mut self, errno: i32) -> Result<()> {
        let all = events::read(&self.log()?)?;
        for event in events::of_device(&all, "data", "flush-failed") {
            let said = event.property("errno");
            ensure!(
                said == Some(&errno.to_string()),
                "a flush failed with errno {said:?} instead of {errno}"
            );
        }
        Ok(())
    }

    /// The load ended because of errors, EIO and no other, and the device is latched.
    pub fn latched(&mut self, context: &Context) -> Result<()> {
        ensure!(
            value(&self.guest.counters("data")?, "latched")? == 1,
            "a failed sync did not latch"
        );
        // What was answered just before it.
        let most = self.acks.fsyncs()? + u64::from(THREADS);
        let report = wait::until("the load's end", SHORT, || {
            ensure!(
                self.acks.fsyncs()? <= most,
                "the guest was told of no failure: its flushes succeed"
            );
            let report = self.guest.load_status("load")?;
            Ok((report.running == 0).then_some(report))
        })?;
        self.told(context, &report)?;
        events::wait_for(&self.log()?, "data", "latched", SHORT).map(drop)
    }

    /// The guest has met EIO and nothing else.
    pub fn told(&mut self, context: &Context, report: &LoadReport) -> Result<()> {
        let errors = || report.threads.iter().flat_map(|thread| &thread.errors);
        context.measure("guest_errors", report.errors);
        ensure!(report.errors > 0, "the guest was told of no failure");
        ensure!(
            errors().all(|one| one.errno == EIO),
            "the guest met {:?} instead of EIO",
            errors().collect::<Vec<_>>()
        );
        let errors = value(&self.guest.counters("data")?, "errors")?;
        context.measure("counter_errors", errors);
        ensure!(errors > 0, "the device counts no error");
        Ok(())
    }

    /// A flush that comes later fails too, whatever the disk does by now.
    pub fn later_flush_fails(&mut self, context: &Context) -> Result<()> {
        let mut spec = raw_load(context, "#0", 1, "#1", 0);
        spec.ack = None;
        spec.first_block = 4096;
        spec.syncs_per_thread = 1;
        self.guest.load_start("later", spec)?;
        let report = self.guest.load_wait("later", SHORT)?;
        ensure!(report.fsyncs == 0, "a flush after the failed one succeeded");
        Ok(())
    }

    /// The management works as ever: pause, a snapshot that is refused by name, resume, and
    /// an end in order, however the disk is.
    pub fn managed_to_its_end(&mut self, context: &Context) -> Result<()> {
        context.step("pause, snapshot, resume, shut down");
        self.guest.pause().context("a latched device must pause")?;
        let folder = context.snapshot_folder("snapshot")?;
        let refused = refusal(
            self.guest.snapshot(&folder),
            "a snapshot with a latched device",
            "latched",
        )?;
        context.measure("snapshot_refusal", refused);
        nothing_in(&folder)?;
        self.guest.resume()?;
        self.guest.is_well()?;
        self.shut_down(context)
    }

    /// Ends the VMM through its API, in time.
    pub fn shut_down(&mut self, context: &Context) -> Result<()> {
        let begun = Instant::now();
        self.guest.machine().shutdown(PROMPT)?;
        context.measure("shutdown_ms", ms(begun.elapsed()));
        Ok(())
    }

    /// The storage is in order again: nothing that was acked is lost, and a guest started
    /// anew works.
    pub fn comes_back(&mut self, context: &Context) -> Result<()> {
        context.step("mend the filesystem, look for what was acked");
        self.backing.mended()?;
        let found = verified(&self.data, &self.acks.file, 0)?;
        ensure!(found.acked > 0, "nothing was acked: the run does not count");
        context.measure("acked_blocks_verified", found.acked);
        self.boots_again(context, 0)
    }

    /// What was acked is on the disk, whatever the page cache has: in the file's first `bytes`, which
    /// have blocks that do not move.
    pub fn on_disk(&self, context: &Context, bytes: u64) -> Result<Report> {
        let disk = OnDisk::first("on-disk", self.backing.piece(), &self.data, bytes)?;
        let found = verified(disk.path(), &self.acks.file, 0)?;
        context.measure("acked_blocks_verified", found.acked);
        Ok(found)
    }

    /// A guest started anew works, on blocks from `first` on too.
    pub fn boots_again(&mut self, context: &Context, first: u64) -> Result<()> {
        context.step("start again");
        self.guest = context.boot(self.devices.clone())?;
        self.guest.devices(2)?;
        ensure!(
            value(&self.guest.counters("data")?, "latched")? == 0,
            "the new process is latched"
        );
        self.load(context, |spec| spec.first_block = first)?;
        let report = self.guest.load_stop("load", STOP)?;
        no_errors(&report)?;
        self.guest.is_well()?;
        self.shut_down(context)?;
        verified(&self.data, &self.acks.file, 0).map(drop)
    }
}

/// A folder without anything in it, not even a half.
pub fn nothing_in(folder: &Path) -> Result<()> {
    let left = folder
        .read_dir()?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<Vec<_>>>()?;
    if !left.is_empty() {
        bail!("{} holds {left:?} of a failed snapshot", folder.display());
    }
    Ok(())
}
