// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One guest of a soak.

use std::fs::remove_dir_all;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use guest_agent::hostile::Case;
use guest_agent::wire::{Filesystem, HostileTarget, LoadKind, LoadSpec, Outcome, Step};

use super::Tally;
use super::schedule::{Act, End, Life};
use crate::inside::acks::Acks;
use crate::inside::context::Context;
use crate::inside::disk::{Backing, HostFs, ReadOnly, Table};
use crate::inside::driver::write;
use crate::inside::events;
use crate::inside::guest::{Guest, SHORT};
use crate::inside::machine::{Pmem, Restore};
use crate::job::Driver;
use crate::scenarios::support::{
    DATA_BYTES, STOP, acked, no_errors, pause_times_out, raw_load, value, verified,
};
use crate::scenarios::suspends::sleep::{Way, allow, sleep_and_wake};

const DIR: &str = "/mnt/data/files";
const MOUNT: &str = "/mnt/data";
/// Syncs between two acts.
const GO_ON: u64 = 3;
const EIO: i32 = 5;

/// A guest, its load and its disk.
struct Being<'a> {
    acks: Acks,
    backing: Backing,
    context: &'a Context,
    data: PathBuf,
    guest: Guest,
    life: &'a Life,
    tally: &'a mut Tally,
}

/// Lives a life to its end.
pub fn live(context: &mut Context, life: &Life, number: u64, tally: &mut Tally) -> Result<()> {
    let step = format!("life {number}");
    context.step(&step);
    // Each life gives its disk back.
    context.scratch().reuse();
    let backing = context.backing("data", HostFs::Ext4, 2 * DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    let ack = context.ack()?;
    let acks = Acks::new(&ack.file, 0);
    let device = Pmem {
        drain_timeout: Some(2),
        ..Pmem::new("data", &data)
    };
    let mut guest = context.boot(vec![device, ack])?;
    guest.devices(2)?;
    allow(&mut guest, Way::Idle)?;
    // The kernel's own sync is flush after flush.
    write(&mut guest, "/sys/power/sync_on_suspend", "0")?;
    if life.in_files {
        let mkfs_rc = guest.mkfs(Filesystem::Ext4, "#0")?;
        ensure!(mkfs_rc == 0, "mkfs ended with {mkfs_rc}");
        guest.mount(Filesystem::Ext4, "#0", MOUNT, false)?;
    }
    let mut being = Being {
        acks,
        backing,
        context,
        data,
        guest,
        life,
        tally,
    };
    being.start_load()?;
    for (index, act) in life.acts.iter().enumerate() {
        context.step(&format!("{step}, act {index}: {act:?}"));
        being
            .act(*act)
            .with_context(|| format!("act {index}, {act:?}"))?;
        being.tally.acts += 1;
    }
    context.step(&format!("{step}, its end"));
    match life.end {
        End::InOrder => being.ends_well()?,
        End::DiskFails | End::ReadOnly => being.ends_badly()?,
    }
    being.tally.lives += 1;
    Ok(())
}

impl Being<'_> {
    fn start_load(&mut self) -> Result<()> {
        let spec = self.load();
        self.guest.load_start("load", spec)?;
        self.acks.go_on(GO_ON, SHORT)
    }

    fn load(&self) -> LoadSpec {
        let (threads, context) = (self.life.threads, self.context);
        if self.life.in_files {
            let kind = LoadKind::File {
                dir: DIR.to_owned(),
                append: false,
            };
            acked(context, kind, threads, "#1", 0)
        } else {
            raw_load(context, "#0", threads, "#1", 0)
        }
    }

    fn stop_load(&mut self) -> Result<()> {
        let report = self.guest.load_stop("load", STOP)?;
        no_errors(&report)?;
        self.tally.fsyncs += report.fsyncs;
        if !self.life.in_files {
            let found = verified(&self.data, &self.acks.file, 0)?;
            ensure!(found.fsyncs == report.fsyncs, "an fsync was not acked");
            self.tally.acked_blocks_verified += found.acked;
        }
        Ok(())
    }

    fn act(&mut self, act: Act) -> Result<()> {
        match act {
            Act::FlushCost(0) => self.backing.disk(Table::Plain)?,
            Act::FlushCost(ms) => self.backing.disk(Table::FlushCost(ms))?,
            Act::Pause => {
                self.pause()?;
                self.guest.resume()?;
            }
            Act::Snapshot | Act::Restore => {
                self.pause()?;
                self.snapshot(act == Act::Restore)?;
                self.guest.resume()?;
            }
            Act::Hang => self.hang()?,
            Act::Suspend => self.suspend()?,
            Act::Rebind => {
                self.stop_load()?;
                self.rebind()?;
                return self.start_load();
            }
            Act::Hostile(case) => {
                self.stop_load()?;
                self.hostile(case)?;
                return self.start_load();
            }
        }
        self.acks.go_on(GO_ON, SHORT)
    }

    fn pause(&mut self) -> Result<()> {
        self.guest.pause()?;
        self.tally.pauses += 1;
        let parked = self.guest.counters("data")?;
        ensure!(
            value(&parked, "in_flight")? == 0,
            "paused with a request popped and not answered: {parked:?}"
        );
        if !self.life.in_files {
            let found = verified(&self.data, &self.acks.file, 0)?;
            self.tally.acked_blocks_verified += found.acked;
        }
        Ok(())
    }

    fn snapshot(&mut self, restore: bool) -> Result<()> {
        let from = self.context.snapshot_folder("snapshot")?;
        self.guest.snapshot(&from)?;
        self.tally.snapshots += 1;
        if restore {
            self.guest.kill()?;
            self.guest.restore(&Restore {
                allow_stale: false,
                from: from.clone(),
            })?;
            self.tally.restores += 1;
        }
        Ok(remove_dir_all(from)?)
    }

    /// A pause fails in time, and the guest goes on as if nothing had been.
    fn hang(&mut self) -> Result<()> {
        pause_times_out(&mut self.guest, "data", &self.backing)?;
        self.tally.timed_out_pauses += 1;
        Ok(())
    }

    /// The kernel's own driver may lose what is in flight: with it the guest stays awake.
    fn suspend(&mut self) -> Result<()> {
        if self.context.trial.driver == Driver::Rust {
            sleep_and_wake(&mut self.guest, Way::Idle)?;
            self.tally.suspends += 1;
        }
        Ok(())
    }

    fn rebind(&mut self) -> Result<()> {
        let devices = self.guest.devices(2)?;
        let device = devices.first().context("no device")?;
        let driver = device.driver.as_deref().context("no driver is bound")?;
        for action in ["unbind", "bind"] {
            self.guest.done(Step::Write {
                path: format!("/sys/bus/virtio/drivers/{driver}/{action}"),
                text: device.virtio.clone(),
            })?;
        }
        self.guest.devices(2).map(drop)
    }

    fn hostile(&mut self, case: usize) -> Result<()> {
        let case = Case::ALL.get(case).context("no such case")?.name();
        let step = Step::Hostile {
            case: case.to_owned(),
            target: HostileTarget::Index(0),
            bound_ms: 10_000,
            hold: false,
        };
        match self.guest.order(step, SHORT)? {
            Outcome::Hostile(report) => {
                ensure!(report.ok, "bad ring `{case}`: {}; {report:?}", report.note);
            }
            other => bail!("the guest answered {other:?} instead of a hostile report"),
        }
        self.guest.devices(2).map(drop)
    }

    fn ends_well(&mut self) -> Result<()> {
        self.backing.disk(Table::Plain)?;
        self.stop_load()?;
        if self.life.in_files {
            self.guest.umount(MOUNT)?;
            let fsck_rc = self.guest.fsck(Filesystem::Ext4, "#0")?;
            ensure!(fsck_rc == 0, "fsck ended with {fsck_rc}");
        }
        self.guest.is_well()?;
        self.guest.machine().shutdown(SHORT)?;
        if self.life.in_files {
            let files = ReadOnly::mount(&self.data, false)?;
            let found = verified(&files.path().join("files"), &self.acks.file, 0)?;
            self.tally.acked_blocks_verified += found.acked;
        }
        Ok(())
    }

    /// The disk, or the filesystem on it, takes no write any more; what was acked is on it.
    fn ends_badly(&mut self) -> Result<()> {
        if self.life.end == End::ReadOnly {
            self.backing.turn_read_only()?;
        } else {
            self.backing.disk(Table::FailWrites)?;
        }
        let log = self
            .guest
            .machine()
            .events()
            .context("no event log")?
            .to_owned();
        events::wait_for(&log, "data", "latched", SHORT)?;
        let report = self.guest.load_stop("load", STOP)?;
        self.tally.fsyncs += report.fsyncs;
        let errors = report.threads.iter().flat_map(|thread| &thread.errors);
        let mut seen = 0;
        for error in errors {
            // A filesystem that has met EIO says EROFS from then on.
            ensure!(
                error.errno == EIO || self.life.in_files,
                "the guest met {error:?} instead of EIO"
            );
            seen += error.count;
        }
        ensure!(seen > 0, "the guest was told of no failed flush");
        self.guest.machine().shutdown(SHORT)?;
        self.backing.disk(Table::Plain)?;
        self.backing.mended()?;
        let found = if self.life.in_files {
            let files = ReadOnly::mount(&self.data, true)?;
            verified(&files.path().join("files"), &self.acks.file, 0)?
        } else {
            verified(&self.data, &self.acks.file, 0)?
        };
        self.tally.acked_blocks_verified += found.acked;
        if self.life.end == End::ReadOnly {
            self.tally.read_only_ends += 1;
        } else {
            self.tally.failing_disk_ends += 1;
        }
        Ok(())
    }
}
