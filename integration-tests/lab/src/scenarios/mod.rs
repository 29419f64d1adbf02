// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The scenarios: each one a function with a name.
//!
//! A scenario says in `control` which defect makes it fail. One that can't fail
//! is not a test.

use std::time::Duration;

use anyhow::Result;

use crate::inside::context::Context;
use crate::job::{Driver, Trial, VmmKind};

mod bench;
mod busy;
mod cuts;
mod cuts_schedule;
mod cuts_sync_calls;
mod demo;
mod discard_writes;
mod discard_writes_snapshot;
mod driver_coalesces;
mod driver_faults;
mod driver_removal;
mod error_latch;
mod faults;
mod hostile_guest;
mod hotplug;
mod memory_pressure;
mod migration;
mod pause_slow_disk;
mod sanity;
mod sleep;
mod snapshot_moments;
mod snapshot_under_load;
mod soak;
mod stale_file;
mod stock_snapshot;
mod support;
mod suspend_snapshots;
mod suspends;
mod two_devices;

/// One scenario.
pub struct Scenario {
    /// The defect that makes it fail.
    pub control: &'static str,
    /// How a sound system lets it end.
    pub expect: Expect,
    /// The groups it belongs to (`lab`, `demo`, …), for filtering.
    pub groups: &'static [&'static str],
    /// The most time one trial of it may take.
    pub limit: Duration,
    /// Its name, as the command line has it.
    pub name: &'static str,
    /// Its code.
    pub run: fn(&mut Context) -> Result<()>,
    /// What it is told, as by `--set NAME=VALUE`; the command line goes before it.
    pub settings: &'static [(&'static str, &'static str)],
    /// What it shows, one line.
    pub summary: &'static str,
    /// What it runs with unless the command line says otherwise.
    pub usual: Usual,
}

/// How a scenario has to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expect {
    /// All that was asked for was seen.
    Pass,
    /// It is a negative control: it fails, and its reason has all of these texts.
    Failure(&'static [&'static str]),
}

/// The parts under test a scenario runs with when the user does not choose. They are spread so
/// that the default run meets all kernels, drivers and VMMs.
#[derive(Clone, Copy, Debug)]
pub struct Usual {
    /// The guest's driver.
    pub driver: Driver,
    /// The guest's kernel series.
    pub kernel: &'static str,
    /// The VMM; one that needs no path.
    pub vmm: VmmKind,
}

/// Ours above, the kernel's own below.
const USUAL: Usual = Usual {
    driver: Driver::C,
    kernel: "7.3",
    vmm: VmmKind::Vmm,
};

/// The driver's own scenarios.
const RUST: Usual = Usual {
    driver: Driver::Rust,
    ..USUAL
};

pub use bench::pair::{PATCHED as BENCH_PATCHED, STOCK as BENCH_STOCK};

/// `./scripts/bench` runs them and makes tables and plots of their rows.
const BENCH: &[&str] = &["bench"];

/// Those of the default run.
const LAB: &[&str] = &["lab"];

/// What only cloud-hypervisor can do: not in the default run, which has none.
const CLOUD_HYPERVISOR: &[&str] = &["cloud-hypervisor"];

/// Suspend and resume; part of the default run.
const SUSPENDS: &[&str] = &["lab", "suspends"];

/// Live snapshots: part of the default run, and a group of its own.
const SNAPSHOTS: &[&str] = &["lab", "snapshots"];

/// What may break below: part of the default run, and a group of its own.
const FAULTS: &[&str] = &["lab", "faults"];

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// Every scenario, in the order a reader meets them.
pub const ALL: &[Scenario] = &[
    Scenario {
        control: "a device whose flush fails, or a guest kick that does: mkfs_rc is not 0",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "sanity-ext4",
        run: sanity::ext4,
        settings: &[],
        summary: "mkfs.ext4, mount, fsync, umount, fsck, and the files read from the host",
        usual: USUAL,
    },
    Scenario {
        control: "as sanity-ext4; a mount that falls back to the page cache is refused",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "sanity-ext4-dax",
        run: sanity::ext4_dax,
        settings: &[],
        summary: "the same with dax=always and stores through a mapping",
        usual: RUST,
    },
    Scenario {
        control: "as sanity-ext4",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "sanity-xfs",
        run: sanity::xfs,
        settings: &[],
        summary: "the same with XFS",
        usual: Usual {
            driver: Driver::Rust,
            kernel: "6.12",
            vmm: VmmKind::Qemu,
        },
    },
    Scenario {
        control: "an engine that answers before the sync (the disk lacks an acked block), one \
                  that parks with a request popped (in_flight is not 0), or one that forgets or \
                  repeats an answer over a restore (fsyncs and flushes differ)",
        expect: Expect::Pass,
        groups: SNAPSHOTS,
        limit: minutes(10),
        name: "snapshot-under-load",
        run: snapshot_under_load::raw,
        settings: &[],
        summary: "20 live snapshots under raw fsync load, 10 of them restored in a new process",
        usual: USUAL,
    },
    Scenario {
        control: "as snapshot-under-load, and fsck",
        expect: Expect::Pass,
        groups: SNAPSHOTS,
        limit: minutes(10),
        name: "snapshot-under-load-ext4",
        run: snapshot_under_load::ext4,
        settings: &[],
        summary: "the same on a mounted ext4, with fsck at the end",
        usual: Usual {
            kernel: "6.12",
            ..RUST
        },
    },
    Scenario {
        control: "a disk with room (--set control=on), a writer that leaves its files behind, or a \
                  failed snapshot that changes the VM's state",
        expect: Expect::Pass,
        groups: SNAPSHOTS,
        limit: minutes(6),
        name: "snapshot-moments",
        run: snapshot_moments::run,
        settings: &[],
        summary: "after a drain that timed out, onto a full disk, with a sync that fails",
        usual: USUAL,
    },
    Scenario {
        control: "it is one: the disk has room for the snapshot",
        expect: Expect::Failure(&["a snapshot (disk_full) was accepted"]),
        groups: SNAPSHOTS,
        limit: minutes(5),
        name: "snapshot-moments-control",
        run: snapshot_moments::run,
        settings: &[("control", "on")],
        summary: "snapshot-moments sees a snapshot that has room",
        usual: USUAL,
    },
    Scenario {
        control: "a restore that forgets the device status, or serves a queue that needs a reset",
        expect: Expect::Pass,
        groups: SNAPSHOTS,
        limit: minutes(5),
        name: "snapshot-needs-reset",
        run: snapshot_moments::needs_reset,
        settings: &[],
        summary: "a device that needs its reset still does after a restore, and recovers",
        usual: USUAL,
    },
    Scenario {
        control: "a restore that does not compare the file's times or does not lock it",
        expect: Expect::Pass,
        groups: SNAPSHOTS,
        limit: minutes(6),
        name: "stale-file",
        run: stale_file::run,
        settings: &[],
        summary: "a snapshot refuses a file that moved on, and takes a copy made while paused",
        usual: USUAL,
    },
    Scenario {
        control: "it is one: a restore that does not compare the file's times",
        expect: Expect::Failure(&["a restore with a stale file was accepted"]),
        groups: SNAPSHOTS,
        limit: minutes(5),
        name: "stale-file-control",
        run: stale_file::run,
        settings: &[("control", "on")],
        summary: "stale-file sees a restore that does not look",
        usual: USUAL,
    },
    Scenario {
        control: "a pause without a deadline takes 30 s; one that leaves the VM half paused stops \
                  the load",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(6),
        name: "pause-slow-disk",
        run: pause_slow_disk::run,
        settings: &[],
        summary: "a pause on a hung disk fails in time by name, and the guest goes on",
        usual: USUAL,
    },
    Scenario {
        control: "it is one: a deadline that is longer than the disk hangs",
        expect: Expect::Failure(&["a pause on a hung disk was accepted"]),
        groups: LAB,
        limit: minutes(5),
        name: "pause-slow-disk-control",
        run: pause_slow_disk::run,
        settings: &[("control", "on")],
        summary: "pause-slow-disk sees a pause without a deadline",
        usual: USUAL,
    },
    Scenario {
        control: "an engine without the latch: the flush after the failed one succeeds",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "error-latch-ext4",
        run: error_latch::ext4,
        settings: &[],
        summary: "after a failed sync on ext4 every flush fails, and the snapshot is refused",
        usual: USUAL,
    },
    Scenario {
        control: "it is one: the device reports each failure once, as a stock one does",
        expect: Expect::Failure(&["a failed sync did not latch"]),
        groups: LAB,
        limit: minutes(5),
        name: "error-latch-control",
        run: error_latch::ext4,
        settings: &[("control", "on")],
        summary: "error-latch-ext4 sees a device without a latch",
        usual: USUAL,
    },
    Scenario {
        control: "as error-latch-ext4",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "error-latch-ext4-no-journal",
        run: error_latch::ext4_no_journal,
        settings: &[],
        summary: "the same on ext4 without a journal",
        usual: Usual {
            kernel: "6.12",
            ..USUAL
        },
    },
    Scenario {
        control: "as error-latch-ext4",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "error-latch-xfs",
        run: error_latch::xfs,
        settings: &[],
        summary: "the same on XFS",
        usual: RUST,
    },
    Scenario {
        control: "sync_error=report (fault-eio-once-control): the device does not latch",
        expect: Expect::Pass,
        groups: FAULTS,
        limit: minutes(6),
        name: "fault-eio-once",
        run: faults::eio_once,
        settings: &[],
        summary: "one failed sync: EIO, latched, and after a new start all that was acked is there",
        usual: USUAL,
    },
    Scenario {
        control: "it is one: the device reports each failure once, as a stock one does",
        expect: Expect::Failure(&["a failed sync did not latch"]),
        groups: FAULTS,
        limit: minutes(5),
        name: "fault-eio-once-control",
        run: faults::eio_once,
        settings: &[("control", "on")],
        summary: "fault-eio-once sees a device without a latch",
        usual: USUAL,
    },
    Scenario {
        control: "an engine that answers success to a failed sync: no error reaches the guest",
        expect: Expect::Pass,
        groups: FAULTS,
        limit: minutes(6),
        name: "fault-eio-for-ever",
        run: faults::eio_for_ever,
        settings: &[],
        summary: "a disk that takes no write any more: each flush fails, the VMM can be ended",
        usual: USUAL,
    },
    Scenario {
        control: "as fault-eio-once; a pool that does not fill up: no flush fails",
        expect: Expect::Pass,
        groups: FAULTS,
        limit: minutes(6),
        name: "fault-enospc",
        run: faults::enospc,
        settings: &[],
        summary: "the thin pool below the filesystem is full: flushes fail, and come back when it grows",
        usual: USUAL,
    },
    Scenario {
        control: "an engine that takes EROFS for success: no flush fails",
        expect: Expect::Pass,
        groups: FAULTS,
        limit: minutes(6),
        name: "fault-read-only",
        run: faults::read_only,
        settings: &[],
        summary: "the backing filesystem turns itself read-only: a flush that wrote nothing is no success",
        usual: USUAL,
    },
    Scenario {
        control: "a VMM that reads or syncs the file when it ends: it hangs or fails",
        expect: Expect::Pass,
        groups: FAULTS,
        limit: minutes(6),
        name: "fault-unplugged",
        run: faults::unplugged,
        settings: &[],
        summary: "the disk is gone: flushes fail, the VMM still answers, pauses and ends",
        usual: USUAL,
    },
    Scenario {
        control: "the disk answers before the pause (--set control=on), or a pause without a deadline",
        expect: Expect::Pass,
        groups: FAULTS,
        limit: minutes(6),
        name: "fault-hung",
        run: faults::hung,
        settings: &[],
        summary: "a disk that answers nothing: a pause fails in time, then all is answered once",
        usual: USUAL,
    },
    Scenario {
        control: "a driver and a device with one sync for each fsync (the kernel's own: `--driver c`)",
        expect: Expect::Pass,
        groups: FAULTS,
        limit: minutes(6),
        name: "fault-slow",
        run: faults::slow,
        settings: &[],
        summary: "a slow disk: flushes share its syncs, and the API waits for none",
        usual: RUST,
    },
    Scenario {
        control: "a restore that makes the file anew or takes another (--set control=on)",
        expect: Expect::Pass,
        groups: FAULTS,
        limit: minutes(6),
        name: "fault-unlinked",
        run: faults::unlinked,
        settings: &[],
        summary: "the file is removed under the guest: it goes on, and the file can be had back",
        usual: USUAL,
    },
    Scenario {
        control: "a VMM that does not look for faults in vain: the guest stands still",
        expect: Expect::Pass,
        groups: FAULTS,
        limit: minutes(6),
        name: "fault-hole",
        run: faults::hole,
        settings: &[],
        summary: "a write into a hole on a full disk ends the VMM in order, naming file and offset",
        usual: USUAL,
    },
    Scenario {
        control: "as fault-hole",
        expect: Expect::Pass,
        groups: FAULTS,
        limit: minutes(6),
        name: "fault-truncated",
        run: faults::truncated,
        settings: &[],
        summary: "a file truncated under the guest ends the VMM in order, naming file and offset",
        usual: USUAL,
    },
    Scenario {
        control: "as fault-hole; or a watch that only knows holes and truncated files",
        expect: Expect::Pass,
        groups: &["faults"],
        limit: minutes(6),
        name: "fault-bad-page",
        run: faults::bad_page,
        settings: &[],
        summary: "a page that cannot be read ends the VMM in order, naming file and offset",
        usual: USUAL,
    },
    Scenario {
        control: "both files on the slow disk, or one thread that syncs for both devices",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "two-devices",
        run: two_devices::run,
        settings: &[],
        summary: "a device on a slow disk does not slow down the other one",
        usual: USUAL,
    },
    Scenario {
        control: "it is one: both files are on the slow disk",
        expect: Expect::Failure(&["an fsync of the fast device took"]),
        groups: LAB,
        limit: minutes(5),
        name: "two-devices-control",
        run: two_devices::run,
        settings: &[("control", "on")],
        summary: "two-devices sees two devices that wait for one disk",
        usual: USUAL,
    },
    Scenario {
        control: "a shared mapping: the file changes",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "discard-writes",
        run: discard_writes::run,
        settings: &[],
        summary: "with discard_writes a flush succeeds and the file stays as it was",
        usual: USUAL,
    },
    Scenario {
        control: "it is one: the mapping is a shared one",
        expect: Expect::Failure(&["times for a private mapping"]),
        groups: LAB,
        limit: minutes(5),
        name: "discard-writes-control",
        run: discard_writes::run,
        settings: &[("control", "on")],
        summary: "discard-writes sees a device that writes into its file",
        usual: USUAL,
    },
    Scenario {
        control: "a snapshot that does not look at the pages, or that refuses all such devices",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "discard-writes-snapshot",
        run: discard_writes_snapshot::run,
        settings: &[],
        summary: "a guest that only reads a private mapping is snapshotted, one that wrote is not",
        usual: USUAL,
    },
    Scenario {
        control: "a device thread that ends on a bad ring: the next flush or pause hangs",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(8),
        name: "hostile-guest",
        run: hostile_guest::run,
        settings: &[],
        summary: "every bad ring leaves a VMM that answers, pauses and resets",
        usual: USUAL,
    },
    Scenario {
        control: "it is one: the device answers nothing at all",
        expect: Expect::Failure(&["bad ring `good`", "it fell silent"]),
        groups: LAB,
        limit: minutes(5),
        name: "hostile-guest-control",
        run: hostile_guest::run,
        settings: &[("fault", "silent")],
        summary: "hostile-guest sees a device that falls silent",
        usual: USUAL,
    },
    Scenario {
        control: "a device that forgets a flush or waits for one when it is removed, or keeps its \
                  lock",
        expect: Expect::Pass,
        groups: CLOUD_HYPERVISOR,
        limit: minutes(8),
        name: "hotplug-under-load",
        run: hotplug::run,
        settings: &[],
        summary: "a device is added, loaded, removed under its load, and added again",
        usual: USUAL,
    },
    Scenario {
        control: "as snapshot-under-load",
        expect: Expect::Pass,
        groups: CLOUD_HYPERVISOR,
        limit: minutes(10),
        name: "live-migration",
        run: migration::under_load,
        settings: &[],
        summary: "a guest is sent to a new process under raw fsync load",
        usual: USUAL,
    },
    Scenario {
        control: "locks that are not taken back: the second VM starts",
        expect: Expect::Pass,
        groups: CLOUD_HYPERVISOR,
        limit: minutes(6),
        name: "migration-refused",
        run: migration::refused,
        settings: &[],
        summary: "a latched device stops a migration; the guest goes on and keeps its file",
        usual: USUAL,
    },
    Scenario {
        control: "a state that needs a field which the unpatched VMM does not write",
        expect: Expect::Pass,
        groups: CLOUD_HYPERVISOR,
        limit: minutes(6),
        name: "stock-snapshot",
        run: stock_snapshot::run,
        settings: &[],
        summary: "a snapshot of the unpatched VMM (--set stock=PATH) is restored under load",
        usual: USUAL,
    },
    Scenario {
        control: "a driver with a host flush for each fsync (the kernel's own: see the control)",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(6),
        name: "driver-coalesces",
        run: driver_coalesces::run,
        settings: &[],
        summary: "16 threads in fsync share host flushes, at most 0.2 each; one thread shares none",
        usual: RUST,
    },
    Scenario {
        control: "it is one: the kernel's own driver flushes the host for each fsync",
        expect: Expect::Failure(&["more than 0.2 for each"]),
        groups: LAB,
        limit: minutes(6),
        name: "driver-coalesces-control",
        run: driver_coalesces::run,
        settings: &[("each", "20")],
        summary: "driver-coalesces sees a driver that does not coalesce",
        usual: USUAL,
    },
    Scenario {
        control: "a driver that ignores the used length or takes a status for an errno (the kernel's own: \
                  `--driver c`)",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(6),
        name: "driver-lying-device",
        run: driver_faults::lying,
        settings: &[],
        summary: "bad cookie, length 0, odd status, double and late answer: EIO, no hang, works when bound anew",
        usual: RUST,
    },
    Scenario {
        control: "a driver without a deadline: the flusher's threads never get an error",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "driver-silent-device",
        run: driver_faults::silent,
        settings: &[],
        summary: "no answer within flush_timeout_ms: ETIMEDOUT to those who wait, then EIO; works when bound anew",
        usual: Usual {
            kernel: "6.12",
            ..RUST
        },
    },
    Scenario {
        control: "a driver that does not look at the status (`--driver c`): who waits is not told",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "driver-needs-reset",
        run: driver_faults::needs_reset,
        settings: &[],
        summary: "a device that asks for a reset under load: EIO to all, works when bound anew",
        usual: Usual {
            kernel: "6.12",
            ..RUST
        },
    },
    Scenario {
        control: "a driver without watchdog or deadline: who waits is not told, unbind hangs",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "driver-surprise-removal",
        run: driver_removal::surprise,
        settings: &[],
        summary: "a device that is pulled out under load: EIO to all, unbind works, the others go on",
        usual: RUST,
    },
    Scenario {
        control: "a driver that forgets a waiter when it is removed",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(5),
        name: "driver-unplug",
        run: driver_removal::unplug,
        settings: &[],
        summary: "an orderly unplug under load: nobody hangs, nothing breaks",
        usual: Usual {
            vmm: VmmKind::Qemu,
            ..RUST
        },
    },
    Scenario {
        control: "a driver that fails or forgets flushes at freeze (the kernel's own: see the \
                  control), or flushes a host that it has reset",
        expect: Expect::Pass,
        groups: SUSPENDS,
        limit: minutes(10),
        name: "suspend-idle",
        run: suspends::idle,
        settings: &[],
        summary: "s2idle with flushes in flight and parked, flush cost 50 ms, 0 and 3 s",
        usual: RUST,
    },
    Scenario {
        control: "it is one: the kernel's own driver",
        expect: Expect::Failure(&["the suspend cost flushes"]),
        groups: SUSPENDS,
        limit: minutes(10),
        name: "suspend-idle-control",
        run: suspends::idle,
        settings: &[],
        summary: "suspend-idle sees a driver that loses flushes",
        usual: USUAL,
    },
    Scenario {
        control: "as suspend-idle",
        expect: Expect::Pass,
        groups: SUSPENDS,
        limit: minutes(10),
        name: "suspend-ram",
        run: suspends::ram,
        settings: &[],
        summary: "the same with suspend to RAM (S3)",
        usual: Usual {
            driver: Driver::Rust,
            kernel: "6.12",
            vmm: VmmKind::Qemu,
        },
    },
    Scenario {
        control: "it is one: the kernel's own driver",
        expect: Expect::Failure(&["the suspend cost flushes"]),
        groups: SUSPENDS,
        limit: minutes(10),
        name: "suspend-ram-control",
        run: suspends::ram,
        settings: &[],
        summary: "suspend-ram sees a driver that loses flushes",
        usual: Usual {
            driver: Driver::C,
            kernel: "6.12",
            vmm: VmmKind::Qemu,
        },
    },
    Scenario {
        control: "as suspend-idle",
        expect: Expect::Pass,
        groups: SUSPENDS,
        limit: minutes(12),
        name: "suspend-disk",
        run: suspends::disk,
        settings: &[("cycles", "3")],
        summary: "the same with hibernation, its image on a second device of the driver",
        usual: Usual {
            driver: Driver::Rust,
            kernel: "6.12",
            vmm: VmmKind::Vmm,
        },
    },
    Scenario {
        control: "it is one: the kernel's own driver",
        expect: Expect::Failure(&["the suspend cost flushes"]),
        groups: SUSPENDS,
        limit: minutes(10),
        name: "suspend-disk-control",
        run: suspends::disk,
        settings: &[("cycles", "3")],
        summary: "suspend-disk sees a driver that loses flushes",
        usual: USUAL,
    },
    Scenario {
        control: "a freeze without a deadline, or one that gives up and fails what it held back",
        expect: Expect::Pass,
        groups: SUSPENDS,
        limit: minutes(8),
        name: "suspend-called-off",
        run: suspends::called_off,
        settings: &[],
        summary: "a flush that outlasts freeze_timeout_ms: EBUSY to the suspend, no error to others",
        usual: RUST,
    },
    Scenario {
        control: "any defect that another scenario names: each of them is met here sooner or later",
        expect: Expect::Pass,
        groups: &["soak"],
        limit: minutes(30),
        name: "soak-all",
        run: soak::run,
        settings: &[],
        summary: "everything at random for --hours H; the seed gives the schedule again",
        usual: USUAL,
    },
    Scenario {
        control: "as suspend-idle and snapshot-under-load",
        expect: Expect::Pass,
        groups: SUSPENDS,
        limit: minutes(8),
        name: "suspend-snapshots",
        run: suspend_snapshots::run,
        settings: &[],
        summary: "suspends and snapshots in alternation, and snapshots of a guest that sleeps",
        usual: RUST,
    },
    Scenario {
        control: "a flush path that waits for memory which only a flush can free",
        expect: Expect::Pass,
        groups: LAB,
        limit: minutes(6),
        name: "memory-pressure",
        run: memory_pressure::run,
        settings: &[],
        summary: "fsync while the guest reclaims and swaps to a device of the same driver",
        usual: Usual {
            kernel: "6.12",
            ..RUST
        },
    },
    Scenario {
        control: "cuts-control-*",
        name: "cuts-raw",
        run: cuts::raw,
        summary: "50 power cuts under 8 fsync threads on raw pmem: no acked block is lost",
        ..cuts::CUT
    },
    Scenario {
        control: "as cuts-raw, and fsck",
        name: "cuts-ext4",
        run: cuts::ext4,
        summary: "the same on ext4 in the guest, which mounts and is clean after each cut",
        usual: Usual {
            kernel: "6.12",
            ..USUAL
        },
        ..cuts::CUT
    },
    Scenario {
        control: "as cuts-raw",
        name: "cuts-restore",
        run: cuts::restore,
        summary: "the same on XFS, across three drains, snapshots and restores",
        ..cuts::CUT
    },
    Scenario {
        control: "it is one: a flush is answered, and nothing else",
        name: "cuts-control-no-sync",
        settings: &[("fault", "no-sync"), ("moments", "10"), ("acks", "200")],
        summary: "cuts-raw sees a device that never syncs",
        ..cuts::CONTROL
    },
    Scenario {
        control: "it is one: each answer is followed by its sync",
        name: "cuts-control-early",
        settings: &[
            ("fault", "early"),
            ("moments", "20"),
            ("acks", "200"),
            ("cost_ms", "100"),
        ],
        summary: "cuts-raw sees a device that answers before its sync",
        ..cuts::CONTROL
    },
    Scenario {
        control: "cuts-control-open-batch",
        limit: minutes(6),
        name: "cuts-schedule",
        run: cuts_schedule::run,
        summary: "a flush that comes during another one's sync gets a sync of its own",
        ..cuts::CUT
    },
    Scenario {
        control: "it is one: a flush that comes during a sync shares its result",
        name: "cuts-control-open-batch",
        run: cuts_schedule::run,
        settings: &[("fault", "open-batch"), ("moments", "40")],
        summary: "cuts-schedule sees a device that pops while a sync runs",
        ..cuts::CONTROL
    },
    Scenario {
        control: "it is one: sync_file_range takes the place of fdatasync",
        name: "cuts-control-sync-file-range",
        settings: &[
            ("fault", "sync-file-range"),
            ("moments", "10"),
            ("acks", "200"),
        ],
        summary: "cuts-raw sees a device that writes pages and flushes no cache",
        ..cuts::CONTROL
    },
    Scenario {
        control: "it is one: the backing ext4 is mounted with barrier=0",
        name: "cuts-control-no-barriers",
        settings: &[("mount", "barrier=0"), ("moments", "10"), ("acks", "200")],
        summary: "cuts-raw sees a backing filesystem that ignores barriers",
        ..cuts::CONTROL
    },
    Scenario {
        control: "sync_file_range, one of its cases, has to lose something",
        limit: minutes(12),
        name: "cuts-sync-calls",
        run: cuts_sync_calls::run,
        summary: "which sync calls keep stores to a mapped file on ext4, XFS and btrfs",
        ..cuts::CUT
    },
    Scenario {
        control: "as cuts-raw",
        name: "cuts-raw-long",
        run: cuts::raw,
        summary: "1,000 power cuts, as cuts-raw",
        ..cuts::LONG
    },
    Scenario {
        control: "as cuts-ext4",
        name: "cuts-ext4-long",
        run: cuts::ext4,
        summary: "1,000 power cuts, as cuts-ext4",
        usual: Usual {
            kernel: "6.12",
            ..USUAL
        },
        ..cuts::LONG
    },
    Scenario {
        control: "as cuts-restore",
        name: "cuts-restore-long",
        run: cuts::restore,
        summary: "1,000 power cuts, as cuts-restore",
        ..cuts::LONG
    },
    Scenario {
        control: "as snapshot-under-load-ext4",
        expect: Expect::Pass,
        groups: &["demo"],
        limit: minutes(8),
        name: "demo",
        run: demo::run,
        settings: &[],
        summary: "mkfs, mount, fsync load, live snapshot, kill, restore, verify, umount, fsck",
        usual: USUAL,
    },
    Scenario {
        control: "none: it measures",
        expect: Expect::Pass,
        groups: BENCH,
        limit: minutes(120),
        name: "bench-flush",
        run: bench::flush::run,
        settings: &[],
        summary: "fsync/s and latency over threads and flush cost",
        usual: USUAL,
    },
    Scenario {
        control: "none: it measures",
        expect: Expect::Pass,
        groups: BENCH,
        limit: minutes(30),
        name: "bench-filesystems",
        run: bench::filesystems::run,
        settings: &[],
        summary: "files on ext4 and XFS, and SQLite's transactions",
        usual: USUAL,
    },
    Scenario {
        control: "none: it measures",
        expect: Expect::Pass,
        groups: BENCH,
        limit: minutes(20),
        name: "bench-pause",
        run: bench::pause::run,
        settings: &[],
        summary: "from the request to pause until the guest is paused",
        usual: USUAL,
    },
    Scenario {
        control: "none: it measures",
        expect: Expect::Pass,
        groups: BENCH,
        limit: minutes(30),
        name: "bench-snapshot",
        run: bench::snapshot::run,
        settings: &[],
        summary: "snapshot, restore and boot times",
        usual: USUAL,
    },
    Scenario {
        control: "none: it measures",
        expect: Expect::Pass,
        groups: BENCH,
        limit: minutes(30),
        name: "bench-sync-calls",
        run: bench::sync_calls::run,
        settings: &[],
        summary: "what each sync call costs on ext4, XFS and btrfs",
        usual: USUAL,
    },
];

/// The most time this trial of a scenario may take: one that is told how long to go on
/// (`minutes`) gets that on top.
pub fn limit(scenario: &Scenario, trial: &Trial) -> Duration {
    let minutes = trial.options.get("minutes");
    let minutes: u32 = minutes.and_then(|text| text.parse().ok()).unwrap_or(0);
    scenario.limit + Duration::from_secs(60) * minutes
}

/// The scenario with this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_is_there_once() {
        let names: HashSet<_> = ALL.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
