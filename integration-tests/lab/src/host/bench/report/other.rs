// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The sections whose rows are plain: filesystems, pause, sync calls, snapshots.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::host::bench::analysis::{DISTURBED, median, ratio, rows};
use crate::host::bench::file::File;
use crate::host::bench::plot::{Chart, Corner, Line, Scale};
use crate::host::bench::report::{Section, driver, figure, maybe, table};

fn heads(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[derive(Deserialize)]
struct Work {
    device: String,
    driver: String,
    workload: String,
    round: u64,
    elapsed_ms: u64,
    operations: u64,
    disturbed: Option<f64>,
}

/// Files and SQLite.
pub fn filesystems(file: &File) -> Result<Section<'static>> {
    let all: Vec<Work> = rows(&file.rows)?;
    let first = all.first().context("no rows")?;
    let base = (first.device.as_str(), first.driver.as_str());
    let best = all
        .iter()
        .map(|row| (row.device.as_str(), row.driver.as_str()))
        .find(|other| *other != base);
    let side = |(device, name): (&str, &str)| format!("{device} + {}", driver(name));
    let mut workloads: Vec<&str> = all.iter().map(|row| row.workload.as_str()).collect();
    workloads.dedup();
    workloads.sort_unstable();
    workloads.dedup();
    let per_second = |row: &Work| ratio(row.operations * 1000, row.elapsed_ms);
    let quiet = |row: &&Work| row.disturbed.is_some_and(|share| share <= DISTURBED);
    let lines = workloads
        .iter()
        .map(|&workload| {
            let of = |is_base: bool| {
                all.iter().filter(quiet).filter(move |row| {
                    let side = (row.device.as_str(), row.driver.as_str());
                    row.workload == workload && (side == base) == is_base
                })
            };
            let ratios = of(true).filter_map(|row| {
                let other = of(false).find(|other| other.round == row.round)?;
                Some(per_second(other) / per_second(row))
            });
            vec![
                workload.to_owned(),
                maybe(median(of(true).map(per_second))),
                maybe(median(of(false).map(per_second))),
                maybe(median(ratios)),
            ]
        })
        .collect::<Vec<_>>();
    let text = format!(
        "Operations a second at a flush cost of 20 ms: 16 threads with a file each and an fsync for each 4 KiB, and one \
         SQLite connection that commits each insert. A journalling filesystem gathers flushes itself, and SQLite waits for \
         its own fsync each time, so both have less to gain than a raw device.\n\n{}",
        table(
            &[
                "workload".to_owned(),
                format!("{}, 1/s", side(base)),
                format!("{}, 1/s", best.map_or_else(|| "-".to_owned(), side)),
                "times".to_owned(),
            ],
            &lines
        )
    );
    Ok(Section {
        title: "Filesystems and a database".to_owned(),
        text,
        charts: Vec::new(),
    })
}

#[derive(Deserialize)]
struct Pause {
    device: String,
    driver: String,
    threads: u64,
    pause_us: u64,
}

/// Pause latency over queue depth.
pub fn pause(file: &File) -> Result<Section<'static>> {
    let all: Vec<Pause> = rows(&file.rows)?;
    let mut cells: BTreeMap<(String, u64), Vec<f64>> = BTreeMap::new();
    for row in &all {
        let side = format!("{} + {}", row.device, driver(&row.driver));
        let cell = cells.entry((side, row.threads)).or_default();
        cell.push(ratio(row.pause_us, 1000));
    }
    let mut lines: Vec<Line> = Vec::new();
    let mut table_rows = Vec::new();
    for ((side, threads), values) in &cells {
        let longest = values.iter().copied().fold(0.0, f64::max);
        let middle = median(values.iter().copied()).unwrap_or(0.0);
        table_rows.push(vec![
            side.clone(),
            threads.to_string(),
            values.len().to_string(),
            figure(middle),
            figure(longest),
        ]);
        let x = ratio(*threads, 1);
        match lines.last_mut() {
            Some(line) if line.name == *side => line.points.push((x, middle)),
            _ => lines.push(Line {
                name: side.clone(),
                points: vec![(x, middle)],
            }),
        }
    }
    let mut text = format!(
        "From the request to pause until the guest is paused, while so many threads flush at a cost of 20 ms; 0 threads show what the \
         machine itself adds. The engine owes the guest at most the sync that runs, the serial device what is queued: one flush at a time with either driver, because 7.3's C driver sends them one by one.\n\n{}",
        table(
            &heads(&["side", "threads", "pauses", "median ms", "longest ms"]),
            &table_rows
        )
    );
    for ((side, threads), values) in cells.iter().filter(|((_, threads), _)| *threads > 0) {
        let idle = cells
            .get(&(side.clone(), 0))
            .and_then(|idle| median(idle.iter().copied()));
        let longest = values.iter().copied().fold(0.0, f64::max);
        if let Some(idle) = idle
            && (side.starts_with("engine") || side.starts_with("patched"))
        {
            text.push_str(&format!(
                "\n{side}, {threads} threads: the longest pause took {} ms more than the median one of an idle guest (wanted: at most 30, a \
                 sync and 10 ms).\n",
                figure(longest - idle)
            ));
        }
    }
    Ok(Section {
        title: "Pause".to_owned(),
        text,
        charts: vec![(
            format!("{}.svg", file.name),
            Chart {
                title: "Pause latency over flushing threads, flush cost 20 ms",
                x: "threads in fsync",
                y: "median ms",
                x_scale: Scale::Linear,
                y_scale: Scale::Linear,
                legend: Corner::UpperLeft,
                caption: "The engine answers the sync that runs, and what it has not begun waits for the resume. The serial device \
                          answers all that is queued, which is much only with a driver that lets many threads queue: both drivers \
                          here have at most one flush with the device.",
                lines,
            },
        )],
    })
}

/// The cost of the calls.
pub fn sync_calls(file: &File) -> Result<Section<'static>> {
    let text_of = |row: &Value, name: &str| match &row[name] {
        Value::String(text) => text.clone(),
        Value::Number(number) => figure(number.as_f64().unwrap_or(0.0)),
        _ => "-".to_owned(),
    };
    let lines: Vec<Vec<String>> = file
        .rows
        .iter()
        .map(|row| {
            let micros = row["median_us"].as_u64().unwrap_or(0);
            vec![
                text_of(row, "filesystem"),
                text_of(row, "file"),
                text_of(row, "dirty_pages"),
                text_of(row, "call"),
                figure(ratio(micros, 1000)),
            ]
        })
        .collect();
    let text = format!(
        "What a call costs after so many pages were written through a mapping, on a disk whose flush takes 5 ms. A call that \
         takes less than that has sent the disk no flush and promises nothing: which calls a power cut spares is in \
         [reliability.md](reliability.md#which-calls-are-a-flush). The engine uses fdatasync.\n\n\
         <details><summary>Every case</summary>\n\n{}\n</details>\n",
        table(
            &heads(&["filesystem", "file", "dirty pages", "call", "median ms"]),
            &lines
        )
    );
    Ok(Section {
        title: "Which sync call".to_owned(),
        text,
        charts: Vec::new(),
    })
}

#[derive(Deserialize)]
struct Snapshot {
    memory_mib: u64,
    dirty_percent: u64,
    boot_to_mount_ms: u64,
    snapshot_ms: u64,
    snapshot_bytes: u64,
    restore_ms: u64,
}

/// Snapshot, restore, boot.
pub fn snapshot(file: &File) -> Result<Section<'static>> {
    let all: Vec<Snapshot> = rows(&file.rows)?;
    let mut cells: BTreeMap<(u64, u64), Vec<&Snapshot>> = BTreeMap::new();
    for row in &all {
        let cell = cells
            .entry((row.memory_mib, row.dirty_percent))
            .or_default();
        cell.push(row);
    }
    let lines: Vec<Vec<String>> = cells
        .iter()
        .map(|((memory, dirty), rows)| {
            let of = |get: fn(&Snapshot) -> u64| {
                maybe(median(rows.iter().map(|row| ratio(get(row), 1))))
            };
            vec![
                memory.to_string(),
                format!("{dirty} %"),
                of(|row| row.snapshot_ms),
                of(|row| row.snapshot_bytes >> 20),
                of(|row| row.restore_ms),
                of(|row| row.boot_to_mount_ms),
            ]
        })
        .collect();
    let text = format!(
        "A snapshot of a paused guest into memory, its restore in a new process, and the way from start to a mounted ext4 (with its \
         mkfs). What grows is the writing of pages that are not zero.\n\n{}",
        table(
            &heads(&[
                "memory MiB",
                "filled by files",
                "snapshot ms",
                "snapshot MiB",
                "restore ms",
                "boot to mount ms"
            ]),
            &lines
        )
    );
    Ok(Section {
        title: "Snapshot and restore".to_owned(),
        text,
        charts: Vec::new(),
    })
}
