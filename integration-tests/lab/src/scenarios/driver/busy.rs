// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A guest that is busy when it goes to sleep.

use std::ops::Sub;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use guest_agent::wire::{Filesystem, LoadKind, Step};
use serde::Serialize;

use crate::inside::acks::Acks;
use crate::inside::context::{Context, Missing};
use crate::inside::disk::{Backing, HostFs, ReadOnly, Table};
use crate::inside::driver::{Bound, Flusher, read, write};
use crate::inside::guest::{Guest, SHORT, code};
use crate::inside::machine::Pmem;
use crate::job::Driver;
use crate::scenarios::support::{DATA_BYTES, STOP, acked, no_errors, verified};
use crate::scenarios::suspends::sleep::{Way, allow};

/// Blocks of the filesystem; the rest of the device is for the kernel threads.
const FS_BLOCKS: u64 = 15 << 10;
const FUA_PAGE: u64 = FS_BLOCKS + 512;
const DIR: &str = "/mnt/data/files";
const MOUNT: &str = "/mnt/data";
const THREADS: u32 = 2;
/// Room for the image of a guest with as much memory.
const SWAP_BYTES: u64 = 400 << 20;
const HIBERNATING_MIB: u64 = 512;
/// When a load has to go on after a resume, with a fast disk.
const AWAKE: Duration = Duration::from_secs(40);
/// A disk this slow makes the kernel's own sync before a suspend take minutes.
const SLOW_MS: u32 = 2_000;

/// What every check of this subject says when it fails.
pub const COST: &str = "the suspend cost flushes";

fn table(cost: u32) -> Table {
    if cost == 0 {
        Table::Plain
    } else {
        Table::FlushCost(cost)
    }
}

/// What the driver has counted of suspends; zeros for the kernel's own.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Freezes {
    /// All.
    pub begun: u64,
    /// Those that found a request at the host.
    pub in_flight: u64,
    /// Those that kept flushes back until the resume.
    pub parked: u64,
    /// Those that were called off.
    pub called_off: u64,
}

impl Sub for Freezes {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            begun: self.begun - other.begun,
            in_flight: self.in_flight - other.in_flight,
            parked: self.parked - other.parked,
            called_off: self.called_off - other.called_off,
        }
    }
}

/// A guest with a mounted filesystem, fsyncs from programs and flushes from kernel threads.
pub struct Busy {
    pub guest: Guest,
    pub backing: Backing,
    pub acks: Acks,
    pub device: Bound,
    driver: Driver,
    data: PathBuf,
    _swap: Option<Backing>,
}

impl Busy {
    /// Boots it and starts its loads, on a fast disk.
    pub fn start(context: &mut Context, way: Way) -> Result<Self> {
        let backing = context.backing("data", HostFs::Ext4, DATA_BYTES)?;
        let data = backing.written_file("pmem.img", DATA_BYTES)?;
        let ack = context.ack()?;
        let acks = Acks::new(&ack.file, 0);
        let mut pmem = vec![Pmem::new("data", &data), ack];
        let mut swap = None;
        if way == Way::Disk {
            let room = context.backing("swap", HostFs::Ext4, SWAP_BYTES)?;
            let file = room.reserved_file("swap.img", SWAP_BYTES)?;
            pmem.push(Pmem::new("swap", &file));
            swap = Some(room);
        }
        let count = pmem.len();
        let mut guest = context.boot_shaped(pmem, context.trial.driver.name(), |boot| {
            if way == Way::Disk {
                boot.memory_mib = HIBERNATING_MIB;
                // Compression is what an emulated CPU does worst.
                boot.cmdline += " hibernate=nocompress";
            }
        })?;
        guest.devices(count)?;
        prepare(&mut guest, way)?;
        let device = Bound::find(&mut guest, 0)?;

        context.step("make and mount the filesystem");
        let blocks = FS_BLOCKS.to_string();
        let mkfs = ["mkfs.ext4", "-F", "-q", "-b", "4096", &device.path, &blocks];
        tool(&mut guest, &mkfs)?;
        guest.mount(Filesystem::Ext4, "#0", MOUNT, true)?;
        let kind = LoadKind::File {
            dir: DIR.to_owned(),
            append: false,
        };
        guest.load_start("load", acked(context, kind, THREADS, "#1", 0))?;
        acks.go_on(2, SHORT)?;
        let flusher = Flusher {
            threads: 6,
            fua_threads: 2,
            fua_page: FUA_PAGE,
            ..Flusher::default()
        };
        flusher.start(&mut guest, &device.path)?;
        Ok(Self {
            guest,
            backing,
            acks,
            device,
            driver: context.trial.driver,
            data,
            _swap: swap,
        })
    }

    /// After a resume: the loads go on, and nothing has failed.
    pub fn goes_on(&mut self, cost: u32, done: u64) -> Result<()> {
        // With our driver a sync waits for two generations at most.
        let within = AWAKE + Duration::from_millis(u64::from(cost) * 8);
        self.acks.go_on(2, within).context(COST)?;
        let flushed = Flusher::counts(&mut self.guest)?;
        ensure!(
            flushed.errors() == 0,
            "{COST}: {} of those of the kernel's threads failed, {} succeeded",
            flushed.errors(),
            flushed.done
        );
        ensure!(
            flushed.done > done,
            "{COST}: the kernel's threads had {done} before it and have no more"
        );
        Ok(())
    }

    /// What the driver counts of suspends.
    pub fn freezes(&mut self) -> Result<Freezes> {
        if self.driver == Driver::C {
            return Ok(Freezes::default());
        }
        let mut of = |name| self.device.counter(&mut self.guest, name);
        Ok(Freezes {
            begun: of("freezes")?,
            in_flight: of("freezes_in_flight")?,
            parked: of("freezes_parked")?,
            called_off: of("freezes_called_off")?,
        })
    }

    /// What the driver counts of one suspend, which began when it had counted `before`. There was a flush at the
    /// host when the driver was frozen, or the suspend shows nothing.
    pub fn met_a_flush(&mut self, before: Freezes) -> Result<()> {
        let met = self.freezes()? - before;
        ensure!(
            self.driver == Driver::C || (met.begun == 1 && met.in_flight == 1),
            "the run does not count: the freeze met no flush in flight: {met:?}"
        );
        Ok(())
    }

    /// Sets what a flush of the disk takes.
    pub fn disk(&mut self, cost: u32) -> Result<()> {
        // The kernel's sync before a suspend is flush after flush, and with a slow disk all
        // that the suspend would wait for.
        let sync = if cost < SLOW_MS { "1" } else { "0" };
        write(&mut self.guest, "/sys/power/sync_on_suspend", sync)?;
        self.backing.disk(table(cost))
    }

    /// Sets how long the driver waits at a freeze.
    pub fn freeze_timeout(&mut self, ms: u32) -> Result<()> {
        let path = "/sys/module/virtio_pmem_rs/parameters/freeze_timeout_ms";
        write(&mut self.guest, path, &ms.to_string())
    }

    /// Stops the loads and looks at what they leave.
    pub fn finish(mut self, context: &Context) -> Result<()> {
        context.step("stop the loads and check");
        self.backing.disk(Table::Plain)?;
        let flushed = Flusher::counts(&mut self.guest)?;
        Flusher::stop(&mut self.guest, SHORT)?;
        ensure!(
            flushed.errors() == 0,
            "{COST}: {} failed in the end",
            flushed.errors()
        );
        let report = self.guest.load_stop("load", STOP)?;
        no_errors(&report).context(COST)?;
        context.measure("fsyncs", report.fsyncs);
        context.measure("flushes_of_kernel_threads", flushed.done);
        context.measure("longest_flush_ms", flushed.longest.as_millis());
        if self.driver == Driver::Rust {
            self.device.is(&mut self.guest, "live")?;
            let errors = self.device.counter(&mut self.guest, "errors")?;
            ensure!(errors == 0, "the driver counts {errors} errors");
        }
        self.guest.umount(MOUNT)?;
        let fsck_rc = self.guest.fsck(Filesystem::Ext4, "#0")?;
        context.measure("fsck_rc", fsck_rc);
        ensure!(fsck_rc == 0, "fsck ended with {fsck_rc}");
        self.guest.is_well()?;
        self.guest.machine().shutdown(SHORT)?;
        let files = ReadOnly::mount(&self.data, false)?;
        let found = verified(&files.path().join("files"), &self.acks.file, 0)?;
        context.measure("acked_blocks_verified", found.acked);
        Ok(())
    }
}

/// Chooses how the guest sleeps, and gives it a place for its image.
fn prepare(guest: &mut Guest, way: Way) -> Result<()> {
    allow(guest, way)?;
    match way {
        Way::Idle => {}
        Way::Ram => {
            if !read(guest, "/sys/power/mem_sleep")?.contains("deep") {
                let text = "this VMM lacks suspend to RAM (S3)".to_owned();
                return Err(Missing(text).into());
            }
            write(guest, "/sys/power/mem_sleep", "deep")?;
        }
        Way::Disk => {
            let swap = Bound::find(guest, 2)?;
            tool(guest, &["mkswap", &swap.path])?;
            tool(guest, &["swapon", &swap.path])?;
            let name = swap.path.trim_start_matches("/dev/");
            let number = read(guest, &format!("/sys/class/block/{name}/dev"))?;
            write(guest, "/sys/power/resume", &number)?;
            write(guest, "/sys/power/disk", "test_resume")?;
        }
    }
    Ok(())
}

/// Runs a program in the guest that must succeed.
pub fn tool(guest: &mut Guest, argv: &[&str]) -> Result<()> {
    let argv: Vec<_> = argv.iter().map(|&word| word.to_owned()).collect();
    let name = argv.join(" ");
    let step = Step::Tool {
        argv,
        timeout_ms: 60_000,
        stdin: String::new(),
    };
    let result = guest.tool(step)?;
    ensure!(
        code(&result) == 0,
        "`{name}` in the guest ended with {}: {}",
        code(&result),
        result.output
    );
    Ok(())
}
