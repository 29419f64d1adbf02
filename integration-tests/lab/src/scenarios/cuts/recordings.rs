// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The power is cut under a guest, many times, and nothing that was acked is lost.

use std::fs::{self, File};

use anyhow::{Context as _, Result, bail, ensure};
use guest_agent::wire::{Filesystem, LoadKind, Pick};

use crate::inside::context::Context;
use crate::inside::disk::{HostFs, Table};
use crate::inside::guest::{Guest, SHORT};
use crate::inside::machine::{Capability, Pmem, Restore};
use crate::inside::replay::{
    Acked, Log, Marker, Marks, Mounted, Odds, Places, Recorder, Replay, Subject, Tally, choose,
};
use crate::inside::wait;
use crate::scenarios::support::{STOP, acked, no_errors, pause_observed, raw_load};
use crate::scenarios::{Expect, Scenario, USUAL, minutes};

/// Threads that write, sync and ack.
const THREADS: u32 = 8;
/// Blocks each of them overwrites.
const BLOCKS: u64 = 16;
/// Size of the guest's device.
const DATA_BYTES: u64 = 32 << 20;
/// Room for the record; a slow machine writes more between two flushes.
const LOG_BYTES: u64 = 6 << 30;
/// What a flush of the disk takes, so that most find another one under way.
const COST_MS: u64 = 10;
/// The same while a guest is drained: a call that pauses it may come later than a flush of 10 ms ends.
const DRAIN_COST_MS: u32 = 200;
/// Acks to record.
const ACKS: u64 = 600;
/// Power cuts of one recording.
pub(super) const MOMENTS: u64 = 50;
/// The guest's device on the backing filesystem.
const FILE: &str = "pmem.img";
const MOUNT: &str = "/mnt/data";
/// Begins the mark that is set when a drain has ended.
const DRAINED: &str = "drained-";
const DIR: &str = "files";

/// What all recordings have in common.
pub const CUT: Scenario = Scenario {
    control: "",
    expect: Expect::Pass,
    groups: &["lab", "cuts"],
    limit: minutes(8),
    name: "",
    run: raw,
    settings: &[],
    summary: "",
    usual: USUAL,
};

/// A recording of something that is wrong.
pub const CONTROL: Scenario = Scenario {
    expect: Expect::Failure(&["power cuts", "acked blocks are lost"]),
    ..CUT
};

/// A thousand cuts of one recording, on demand.
pub const LONG: Scenario = Scenario {
    groups: &["cuts-long"],
    limit: minutes(60),
    settings: &[("moments", "1000"), ("acks", "2000")],
    ..CUT
};

/// What is recorded.
struct Plan {
    /// Below the guest's device.
    fs: HostFs,
    /// The guest has an ext4 on its device.
    in_files: bool,
    /// Snapshots from which the guest is restored meanwhile.
    restores: u64,
}

/// `cuts-raw`, and the controls of that name.
pub fn raw(context: &mut Context) -> Result<()> {
    run(
        context,
        &Plan {
            fs: HostFs::Ext4,
            in_files: false,
            restores: 0,
        },
    )
}

/// `cuts-ext4`.
pub fn ext4(context: &mut Context) -> Result<()> {
    run(
        context,
        &Plan {
            fs: HostFs::Ext4,
            in_files: true,
            restores: 0,
        },
    )
}

/// `cuts-restore`.
pub fn restore(context: &mut Context) -> Result<()> {
    run(
        context,
        &Plan {
            fs: HostFs::Xfs,
            in_files: false,
            restores: 3,
        },
    )
}

fn run(context: &mut Context, plan: &Plan) -> Result<()> {
    if plan.restores > 0 {
        context.needs(&[Capability::Snapshot])?;
    }
    let moments = context.number("moments", MOMENTS)?;
    let odds = odds(context)?;
    let recorder = context.recorder("data", plan.fs.smallest(), LOG_BYTES)?;
    let (acks, log) = record(context, plan, &recorder)?;
    let count = |what: fn(&&_) -> bool| log.entries.iter().filter(what).count();
    context.measure("marks", acks.marks());
    context.measure("log_entries", log.entries.len());
    context.measure("log_flushes", count(|entry| entry.flush));
    context.measure("log_writes", count(|entry| entry.changes()));
    context.measure("log_bytes_written", log.written());

    context.step(&format!("cut the power {moments} times"));
    let places = places(&acks, &log)?;
    let subject = Subject {
        acked: &acks,
        file: FILE,
        inside: plan.in_files.then_some(DIR),
        options: plan.fs.copy_options(),
    };
    let mut tally = Tally::default();
    let mut replay = Replay::new(&log, recorder.size())?;
    let cuts = choose(&places, moments, &odds);
    if plan.restores > 0 {
        let near = cuts.iter().filter(|cut| places.near_a_turn(cut.at));
        context.measure("cuts_near_a_restore", near.count());
    }
    for cut in cuts {
        replay.judge(&cut, &subject, &mut tally)?;
    }
    told(context, &tally)
}

/// After which acks and which restores the power may be cut.
fn places(acks: &Acked, log: &Log) -> Result<Places> {
    let marks = acks.entries(&log.entries);
    // Before that the guest may not have come to the end of its mkfs.
    let first = marks.first().context("the log has no ack")?;
    Ok(Places {
        within: first + 1..log.find("end")?,
        turns: log.marked(DRAINED),
        marks,
    })
}

/// `--set kept=7 --set torn=1`: so many eighths of each cut's cache, and all writes of several blocks torn.
fn odds(context: &Context) -> Result<Odds> {
    let set = |name| {
        let is_set = context.trial.options.contains_key(name);
        is_set.then(|| context.number(name, 0)).transpose()
    };
    odds_of(context.trial.seed, set("kept")?, set("torn")?)
}

fn odds_of(seed: u64, kept: Option<u64>, torn: Option<u64>) -> Result<Odds> {
    let mut odds = Odds::new(seed);
    if let Some(torn) = torn {
        ensure!(torn > 0, "--set torn=0: of so many writes one is torn");
        odds.torn = torn;
    }
    if let Some(kept) = kept {
        ensure!(kept <= 8, "--set kept={kept}: these are parts of eight");
        ensure!(
            kept < 8 || torn.is_none(),
            "--set kept=8 with torn: where all of the cache survives, nothing is torn"
        );
        odds.shares = vec![kept];
    }
    Ok(odds)
}

/// The tally becomes the scenario's end.
pub(super) fn told(context: &Context, tally: &Tally) -> Result<()> {
    context.measure("power_cuts", tally.cuts);
    context.measure("acked_blocks_checked", tally.acked);
    context.measure("acked_blocks_lost", tally.lost);
    context.measure("backing_not_recovered", tally.unmountable);
    context.measure("guest_filesystem_not_clean", tally.unclean);
    context.measure("guest_filesystem_repaired", tally.repaired);
    context.measure("acked_blocks_lost_to_repair", tally.lost_to_repair);
    if let Some(first) = &tally.first_cost {
        context.measure("first_repair_that_cost", first);
    }
    ensure!(
        tally.acked > 0,
        "the run does not count: no cut had an acked block to look at"
    );
    match tally.wrong() {
        None => Ok(()),
        Some(wrong) => bail!(wrong),
    }
}

fn record(context: &mut Context, plan: &Plan, recorder: &Recorder) -> Result<(Acked, Log)> {
    plan.fs.make(&recorder.path().display().to_string())?;
    let mounted = Mounted::new(recorder.path(), "data", "rw")?;
    let data = mounted.at.join(FILE);
    fs::write(&data, vec![0; usize::try_from(DATA_BYTES)?])?;
    File::open(&data)?.sync_all()?;
    mounted.end()?;
    recorder.flush()?;
    let marks = recorder.marks()?;
    let options = context.trial.options.get("mount");
    let options = options.map_or("rw", String::as_str);
    let mounted = Mounted::new(recorder.path(), "data", options)?;

    let ack = context.ack()?;
    let marker_file = ack.file.clone();
    let mut guest = context.boot(vec![Pmem::new("data", &data), ack])?;
    guest.devices(2)?;
    let mut spec = if plan.in_files {
        let mkfs_rc = guest.mkfs(Filesystem::Ext4, "#0")?;
        ensure!(mkfs_rc == 0, "mkfs ended with {mkfs_rc}");
        guest.mount(Filesystem::Ext4, "#0", MOUNT, false)?;
        let kind = LoadKind::File {
            dir: format!("{MOUNT}/{DIR}"),
            append: false,
        };
        acked(context, kind, THREADS, "#1", 0)
    } else {
        raw_load(context, "#0", THREADS, "#1", 0)
    };
    spec.blocks_per_thread = BLOCKS;
    spec.pick = Pick::Random;
    let cost = u32::try_from(context.number("cost_ms", COST_MS)?)?;
    recorder.disk(Table::FlushCost(cost))?;
    context.step("record acked syncs");
    let marker = Marker::start("load", &marker_file, marks.clone())?;
    guest.load_start("load", spec)?;
    let parts = plan.restores + 1;
    let all = context.number("acks", ACKS)?;
    let mut met = 0;
    for part in 1..=parts {
        wait::until("more acked syncs", STOP * 4, || {
            ensure!(!marker.is_over(), "the marker has ended");
            Ok((marker.acks() >= all * part / parts).then_some(()))
        })?;
        if part < parts {
            recorder.disk(Table::FlushCost(DRAIN_COST_MS))?;
            met += u64::from(drain(context, &mut guest, &marks, part)?);
            recorder.disk(Table::FlushCost(cost))?;
            move_on(context, &mut guest)?;
        }
    }
    if plan.restores > 0 {
        context.measure("drains_that_met_a_flush", met);
        ensure!(
            met > 0,
            "the run does not count: none of {} drains met a flush in flight",
            plan.restores
        );
    }
    let report = guest.load_stop("load", STOP)?;
    no_errors(&report)?;
    let acks = marker.stop()?;
    marks.set("end")?;
    context.measure("guest_fsyncs", report.fsyncs);
    guest.is_well()?;
    guest.kill()?;
    drop(guest);
    recorder.disk(Table::Plain)?;
    mounted.end()?;
    Ok((acks, recorder.finish()?))
}

/// Pauses the guest, and marks where it has been drained. True if there was a flush to wait for.
fn drain(context: &Context, guest: &mut Guest, marks: &Marks, part: u64) -> Result<bool> {
    context.step(&format!("snapshot and restore {part}"));
    let pause = pause_observed(guest, "data")?;
    marks.set(&format!("{DRAINED}{part}"))?;
    Ok(pause.met)
}

/// Takes a snapshot and goes on from it in a new process.
fn move_on(context: &Context, guest: &mut Guest) -> Result<()> {
    let folder = context.snapshot_folder("snapshot")?;
    guest.snapshot(&folder)?;
    guest.kill()?;
    guest.restore(&Restore {
        allow_stale: false,
        from: folder.clone(),
    })?;
    guest.resume()?;
    let counters = guest.counters("data")?;
    context.measure("flushes_after_last_restore", counters.get("flushes"));
    wait::until("the guest's answer", SHORT, || {
        Ok(guest.machine().alive().is_ok().then_some(()))
    })?;
    Ok(fs::remove_dir_all(folder)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_survives_can_be_set_but_not_to_contradict_itself() {
        let set = |kept, torn| odds_of(7, kept, torn);
        assert_eq!(set(None, None).unwrap(), Odds::new(7));
        let odds = set(Some(7), Some(1)).unwrap();
        assert_eq!((odds.shares, odds.torn), (vec![7], 1));
        assert_eq!(set(Some(8), None).unwrap().shares, [8]);
        for (kept, torn) in [(Some(9), None), (None, Some(0)), (Some(8), Some(1))] {
            set(kept, torn).unwrap_err();
        }
    }
}
