// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The flush benchmark's section.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Result, bail};

use crate::host::bench::analysis::{Cell, FlushRow, compare, distinct, ratio, rows, typical};
use crate::host::bench::file::File;
use crate::host::bench::plot::{Chart, Corner, Line, Scale};
use crate::host::bench::report::{Section, driver, maybe, table};

/// The cost of a flush whose cells the pictures show, if it was measured.
const SHOWN_MS: u64 = 20;

type Side = (String, String);

/// Throughput, latency and cost over threads.
pub fn section(file: &File) -> Result<Section<'static>> {
    let mut rows: Vec<FlushRow> = rows(&file.rows)?;
    if file.quick {
        // It is for ratios with margin on a machine that may be busy.
        for row in &mut rows {
            row.disturbed = Some(0.0);
        }
    }
    let sides = sides(&rows);
    let Some((base, best)) = sides.first().cloned().zip(sides.get(1).cloned()) else {
        bail!("two sides are needed for a comparison");
    };
    let mut text = speed_ups(&rows, &base, &best)?;
    text.push_str(&targets(file, &rows, &base, &best)?);
    if let Some(ceiling) = ceiling(&rows, &sides) {
        writeln!(
            text,
            "\nThe machine's ceiling, at a flush cost of 0: {} fsync/s, whatever the threads and the pair.",
            maybe(Some(ceiling))
        )?;
    }
    text.push_str(&details(&rows, &sides));
    if let Some(long) = file.others.get("long") {
        let long: FlushRow = serde_json::from_value(long.clone())?;
        writeln!(
            text,
            "\nOver {} s with 16 threads at 20 ms, {}: {} fsyncs, {} host syncs: {} for each (the floor, two batches of 8, \
             is 0.125).",
            long.elapsed_ms / 1000,
            name(&(long.device.clone(), long.driver.clone())),
            long.fsyncs,
            long.host_syncs.unwrap_or(0),
            long.syncs_per_fsync()
                .map_or_else(String::new, |share| format!("{share:.3}")),
        )?;
    }
    Ok(Section {
        title: "Flushes over threads".to_owned(),
        text,
        charts: charts(&file.name, &rows, &sides),
    })
}

/// What a cell is to reach.
struct Target {
    cell: Cell,
    what: &'static str,
    figure: fn(&FlushRow) -> f64,
    wanted: &'static str,
}

const fn cell(threads: u64, cost_ms: u64) -> Cell {
    Cell { threads, cost_ms }
}

const TARGETS: [Target; 5] = [
    Target {
        cell: cell(16, 20),
        what: "fsync/s",
        figure: FlushRow::per_second,
        wanted: "at least 7 times",
    },
    Target {
        cell: cell(64, 100),
        what: "fsync/s",
        figure: FlushRow::per_second,
        wanted: "at least 25 times",
    },
    Target {
        cell: cell(64, 200),
        what: "fsync/s",
        figure: FlushRow::per_second,
        wanted: "at least 25 times",
    },
    Target {
        cell: cell(1, 20),
        what: "median latency",
        figure: latency,
        wanted: "at most 1.05 times",
    },
    Target {
        cell: cell(1, 0),
        what: "median latency",
        figure: latency,
        wanted: "at most 1.10 times",
    },
];

fn latency(row: &FlushRow) -> f64 {
    ratio(row.median_us, 1)
}

/// The cells that have targets; those that were measured.
fn targets(file: &File, rows: &[FlushRow], base: &Side, best: &Side) -> Result<String> {
    let mut lines = Vec::new();
    for target in TARGETS {
        let found = compare(rows, target.cell, short(base), short(best), target.figure);
        if found.pairs + found.dropped > 0 {
            lines.push(vec![
                format!(
                    "{} threads, {} ms",
                    target.cell.threads, target.cell.cost_ms
                ),
                target.what.to_owned(),
                target.wanted.to_owned(),
                found
                    .value
                    .map_or_else(|| "-".to_owned(), |value| format!("{value:.2}")),
                found.pairs.to_string(),
            ]);
        }
    }
    if let Some(long) = file.others.get("long") {
        let long: FlushRow = serde_json::from_value(long.clone())?;
        lines.push(vec![
            "16 threads, 20 ms".to_owned(),
            format!("host syncs/fsync over {} s", long.elapsed_ms / 1000),
            "at most 0.15".to_owned(),
            long.syncs_per_fsync()
                .map_or_else(|| "-".to_owned(), |share| format!("{share:.3}")),
            "1 run".to_owned(),
        ]);
    }
    if lines.is_empty() {
        return Ok(String::new());
    }
    let head = ["cell", "figure", "wanted", "seen", "pairs"].map(str::to_owned);
    Ok(format!("\n{}", table(&head, &lines)))
}

/// The most fsyncs a second that any side reaches when a flush costs nothing.
fn ceiling(rows: &[FlushRow], sides: &[Side]) -> Option<f64> {
    let threads = distinct(rows, |row| row.threads);
    let cells = threads.iter().map(|&threads| cell(threads, 0));
    cells
        .flat_map(|cell| {
            sides
                .iter()
                .filter_map(move |side| typical(rows, cell, short(side), FlushRow::per_second))
        })
        .max_by(f64::total_cmp)
}

/// In the order of their first rows, which is that of the pairs.
fn sides(rows: &[FlushRow]) -> Vec<Side> {
    let mut sides: Vec<Side> = Vec::new();
    for row in rows {
        let side = (row.device.clone(), row.driver.clone());
        if !sides.contains(&side) {
            sides.push(side);
        }
    }
    sides
}

fn name(side: &Side) -> String {
    format!("{} + {}", side.0, driver(&side.1))
}

fn short(side: &Side) -> (&str, &str) {
    (&side.0, &side.1)
}

/// How much faster the best side is, cell by cell.
fn speed_ups(rows: &[FlushRow], base: &Side, best: &Side) -> Result<String> {
    let threads = distinct(rows, |row| row.threads);
    let costs = distinct(rows, |row| row.cost_ms);
    let mut text = format!(
        "fsync/s of *{}* as a multiple of *{}*: {}\n\n",
        name(best),
        name(base),
        "the more threads share a flush and the more a flush costs, the more there is to gain; one thread has nothing to \
         share and must not lose."
    );
    let head: Vec<String> = [String::from("flush cost")]
        .into_iter()
        .chain(threads.iter().map(|count| match count {
            1 => "1 thread".to_owned(),
            count => format!("{count} threads"),
        }))
        .collect();
    let mut dropped = 0;
    let mut pairs = usize::MAX;
    let mut empty = 0;
    let table_rows: Vec<Vec<String>> = costs
        .iter()
        .map(|&cost_ms| {
            let cells = threads.iter().map(|&threads| {
                let cell = Cell { threads, cost_ms };
                let found = compare(rows, cell, short(base), short(best), FlushRow::per_second);
                dropped += found.dropped;
                match found.pairs {
                    0 => empty += 1,
                    some => pairs = pairs.min(some),
                }
                maybe(found.value)
            });
            [format!("{cost_ms} ms")].into_iter().chain(cells).collect()
        })
        .collect();
    text.push_str(&table(&head, &table_rows));
    let pairs = if pairs == usize::MAX { 0 } else { pairs };
    writeln!(
        text,
        "\nAt least {pairs} pairs a cell (those with a target have more rounds); {dropped} pairs were dropped as disturbed{}.",
        match empty {
            0 => "",
            1 => ", and of one cell (-) none is left",
            _ => ", and of some cells (-) none is left",
        }
    )?;
    Ok(text)
}

/// Every cell of every side.
fn details(rows: &[FlushRow], sides: &[Side]) -> String {
    let head = [
        "flush cost",
        "threads",
        "side",
        "fsync/s",
        "p50 ms",
        "p99 ms",
        "longest ms",
        "host syncs/fsync",
        "VM exits/fsync",
        "CPU ms/fsync",
    ]
    .map(str::to_owned);
    let mut lines = Vec::new();
    for cost_ms in distinct(rows, |row| row.cost_ms) {
        for threads in distinct(rows, |row| row.threads) {
            for side in sides {
                let of = |get: &dyn Fn(&FlushRow) -> f64| {
                    maybe(typical(rows, Cell { threads, cost_ms }, short(side), get))
                };
                lines.push(vec![
                    format!("{cost_ms} ms"),
                    threads.to_string(),
                    name(side),
                    of(&FlushRow::per_second),
                    of(&|row| ratio(row.median_us, 1000)),
                    of(&|row| ratio(row.p99_us, 1000)),
                    of(&|row| ratio(row.max_us, 1000)),
                    of(&|row| row.syncs_per_fsync().unwrap_or(f64::NAN)).replace("NaN", "-"),
                    of(&|row| ratio(row.exits, row.fsyncs)),
                    of(&|row| ratio(row.cpu_us, row.fsyncs * 1000)),
                ]);
            }
        }
    }
    let body = table(&head, &lines);
    format!("\n<details><summary>Every cell (medians)</summary>\n\n{body}\n</details>\n")
}

fn charts(stem: &str, rows: &[FlushRow], sides: &[Side]) -> Vec<(String, Chart<'static>)> {
    if !rows.iter().any(|row| row.cost_ms == SHOWN_MS) {
        return Vec::new();
    }
    let threads = distinct(rows, |row| row.threads);
    let over_threads = |get: fn(&FlushRow) -> f64| -> Vec<Line> {
        sides
            .iter()
            .map(|side| Line {
                name: name(side),
                points: threads
                    .iter()
                    .filter_map(|&threads| {
                        let cell = Cell {
                            threads,
                            cost_ms: SHOWN_MS,
                        };
                        let x = ratio(threads, 1);
                        Some((x, typical(rows, cell, short(side), get)?))
                    })
                    .collect(),
            })
            .collect()
    };
    let many = 16;
    vec![
        (
            format!("{stem}-throughput.svg"),
            Chart {
                title: "fsync/s over threads, flush cost 20 ms",
                x: "threads in fsync",
                y: "fsync/s",
                x_scale: Scale::Doubling,
                y_scale: Scale::Doubling,
                legend: Corner::UpperLeft,
                caption: "The kernel's driver sends one flush at a time, so with it each fsync has a host flush of its own and the rate stays \
                          that of one thread, whatever the device. With the Rust driver a host flush serves all who came before it, \
                          so the rate rises with the threads until the guest's processor is the limit.",
                lines: over_threads(FlushRow::per_second),
            },
        ),
        (
            format!("{stem}-latency.svg"),
            Chart {
                title: "Share of fsyncs that took at most so long, 16 threads, flush cost 20 ms",
                x: "ms",
                y: "share",
                x_scale: Scale::Doubling,
                y_scale: Scale::Linear,
                legend: Corner::LowerRight,
                caption: "Who shares waits for at most two host flushes, the one that runs and the next one, so the curve is steep and \
                          ends early. On the serial pair each thread waits until all others have had a sync of their own.",
                lines: sides
                    .iter()
                    .map(|side| Line {
                        name: name(side),
                        points: distribution(rows, many, side),
                    })
                    .collect(),
            },
        ),
    ]
}

/// The cumulated distribution over all quiet rows of a cell.
fn distribution(rows: &[FlushRow], threads: u64, side: &Side) -> Vec<(f64, f64)> {
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    let of_cell = rows
        .iter()
        .filter(|row| {
            row.threads == threads
                && row.cost_ms == SHOWN_MS
                && row.side() == short(side)
                && row.is_quiet()
        })
        .flat_map(|row| row.distribution.iter().copied());
    for (upper, count) in of_cell {
        *counts.entry(upper).or_default() += count;
    }
    let all: u64 = counts.values().sum();
    let mut seen = 0;
    counts
        .into_iter()
        .map(|(upper, count)| {
            seen += count;
            (ratio(upper, 1000), ratio(seen, all))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::host::bench::file::Machine;

    fn row(device: &str, driver: &str, threads: u64, fsyncs: u64) -> Value {
        json!({
            "device": device, "driver": driver, "threads": threads, "cost_ms": 20, "round": 0,
            "elapsed_ms": 1000, "fsyncs": fsyncs, "median_us": 2000, "p99_us": 3000,
            "max_us": 4000, "host_syncs": 10, "exits": 100, "cpu_us": 5000, "disturbed": 0.01,
            "distribution": [[2000, 5], [4000, 5]],
        })
    }

    fn file(rows: Vec<Value>) -> File {
        File {
            name: "flush".to_owned(),
            date: String::new(),
            commit: String::new(),
            machine: Machine::default(),
            quick: false,
            settings: Map::new(),
            rows,
            others: Map::new(),
        }
    }

    #[test]
    fn the_table_has_the_multiple_and_the_picture_every_side() {
        let file = file(vec![
            row("serial", "c", 1, 40),
            row("engine", "rust", 1, 40),
            row("serial", "c", 16, 50),
            row("engine", "rust", 16, 400),
        ]);
        let section = section(&file).unwrap();
        assert!(
            section.text.contains("| 20 ms | 1 | 8 |"),
            "{}",
            section.text
        );
        assert!(
            section.text.contains("0 pairs were dropped"),
            "{}",
            section.text
        );
        assert!(
            section
                .text
                .contains("| 16 threads, 20 ms | fsync/s | at least 7 times | 8.00 | 1 |"),
            "{}",
            section.text
        );
        let lines = &section.charts[0].1.lines;
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1].points, [(1.0, 40.0), (16.0, 400.0)]);
        let cdf = &section.charts[1].1.lines[0].points;
        assert_eq!(cdf, &[(2.0, 0.5), (4.0, 1.0)]);
    }

    #[test]
    fn one_side_is_no_comparison() {
        let error = section(&file(vec![row("serial", "c", 1, 40)]))
            .err()
            .unwrap();
        assert!(error.to_string().contains("two sides"), "{error}");
    }
}
