// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What each call costs that could make a mapped file's pages durable: no guest, a process of the
//! host that writes through a shared mapping as a guest does.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use guest_agent::pattern::BLOCK;
use serde::Serialize;

use crate::inside::context::Context;
use crate::inside::disk::{Backing, CALLS, Call, HostFs, Mapped, Table};
use crate::scenarios::bench::Rows;

/// The file.
const BYTES: u64 = 64 << 20;
const BLOCKS: usize = 16384;
/// Room for the filesystem's files; what a file leaves behind is not always free at once.
const ROOM: u64 = 256 << 20;
const ROUNDS: u64 = 30;
/// What a flush of the disk takes: a call that sends none is seen by that.
const COST_MS: u32 = 5;

const FILESYSTEMS: [HostFs; 3] = [HostFs::Ext4, HostFs::Xfs, HostFs::Btrfs];

/// One case: the times are microseconds of a call.
#[derive(Serialize)]
struct Row {
    filesystem: &'static str,
    file: &'static str,
    call: &'static str,
    dirty_pages: usize,
    flush_cost_ms: u32,
    rounds: u64,
    median_us: u64,
    p99_us: u64,
}

/// `bench-sync-calls`.
pub fn run(context: &mut Context) -> Result<()> {
    let rounds = context.number("rounds", ROUNDS)?;
    let mut rows = Rows::default();
    for fs in FILESYSTEMS {
        let backing = context.backing(fs.name(), fs, ROOM)?;
        for file in ["written", "sparse"] {
            for call in CALLS {
                for dirty_pages in [1, 64, 1024] {
                    context.step(&format!(
                        "{}, {dirty_pages} pages, {file} file on {}",
                        call.name(),
                        fs.name()
                    ));
                    backing.disk(Table::Plain)?;
                    let target = target(&backing, file)?;
                    backing.disk(Table::FlushCost(COST_MS))?;
                    let mut times = measure(&target, call, dirty_pages, rounds)?;
                    times.sort_unstable();
                    let at = |percent: usize| micros(times[(times.len() - 1) * percent / 100]);
                    let row = Row {
                        filesystem: fs.name(),
                        file,
                        call: call.name(),
                        dirty_pages,
                        flush_cost_ms: COST_MS,
                        rounds,
                        median_us: at(50),
                        p99_us: at(99),
                    };
                    rows.add(context, &row);
                }
            }
        }
    }
    Ok(())
}

/// A fresh file, mapped.
fn target(backing: &Backing, kind: &str) -> Result<Mapped> {
    let path = backing.path().join("file");
    let _ = fs::remove_file(&path);
    if kind == "written" {
        backing.written_file("file", BYTES)?;
    } else {
        let file = File::create(&path)?;
        file.set_len(BYTES)?;
        file.sync_all()?;
    }
    let file = File::options().read(true).write(true).open(&path)?;
    Mapped::new(file, BYTES)
}

/// Dirties pages, then calls; only the call is timed.
fn measure(target: &Mapped, call: Call, dirty: usize, rounds: u64) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for round in 0..usize::try_from(rounds)? {
        let content = [u8::try_from(round % 251)?; BLOCK];
        for page in 0..dirty {
            // Spread, so that few pages are not one extent.
            target.store((round * dirty + page) * 7 % BLOCKS, &content);
        }
        let begun = Instant::now();
        target.sync(call).with_context(|| call.name())?;
        times.push(begun.elapsed());
    }
    Ok(times)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
