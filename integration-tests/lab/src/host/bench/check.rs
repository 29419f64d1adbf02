// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What CI demands of the short run: ratios with margin, never an absolute time.

use anyhow::{Context, Result, ensure};

use crate::host::bench::analysis::{Cell, FlushRow, compare, rows};
use crate::host::bench::file::File;

/// Throughput at 16 threads and 20 ms against the stock-like pair; the full run demands 7.
const SPEED_UP: f64 = 4.0;
/// Host syncs for each fsync at 16 threads; the full run demands 0.15.
const SYNCS_PER_FSYNC: f64 = 0.25;
/// A single thread's latency against the stock-like pair; the full run demands 1.05.
const ALONE: f64 = 1.25;

const BASE: (&str, &str) = ("serial", "c");
const OURS: (&str, &str) = ("engine", "rust");

/// An error by name if a ratio does not hold.
pub fn ratios(files: &[File]) -> Result<()> {
    for file in files.iter().filter(|file| file.name == "flush") {
        // On a shared machine hardly a row is quiet; the margins allow for that.
        let rows: Vec<FlushRow> = rows::<FlushRow>(&file.rows)?
            .into_iter()
            .map(|row| FlushRow {
                disturbed: Some(0.0),
                ..row
            })
            .collect();
        flush(&rows)?;
    }
    Ok(())
}

fn flush(rows: &[FlushRow]) -> Result<()> {
    let cell = |threads| Cell {
        threads,
        cost_ms: 20,
    };
    let speed = compare(rows, cell(16), BASE, OURS, FlushRow::per_second)
        .value
        .context("nothing was measured at 16 threads")?;
    ensure!(
        speed >= SPEED_UP,
        "16 threads at 20 ms: {speed:.1} times the stock-like pair, wanted at least {SPEED_UP}"
    );
    let alone = compare(rows, cell(1), BASE, OURS, |row| {
        f64::from(u32::try_from(row.median_us).unwrap_or(u32::MAX))
    })
    .value
    .context("nothing was measured with 1 thread")?;
    ensure!(
        alone <= ALONE,
        "1 thread at 20 ms: {alone:.2} times the stock-like pair's latency, wanted at most {ALONE}"
    );
    for row in rows
        .iter()
        .filter(|row| row.side() == OURS && row.threads == 16)
    {
        let share = row.syncs_per_fsync().unwrap_or(1.0);
        ensure!(
            share <= SYNCS_PER_FSYNC,
            "16 threads at 20 ms: {share:.3} host syncs per fsync, wanted at most {SYNCS_PER_FSYNC}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(side: (&str, &str), threads: u64, fsyncs: u64, host_syncs: u64) -> FlushRow {
        FlushRow {
            device: side.0.to_owned(),
            driver: side.1.to_owned(),
            threads,
            cost_ms: 20,
            round: 0,
            elapsed_ms: 1000,
            fsyncs,
            median_us: 1_000_000 * threads / fsyncs,
            p99_us: 0,
            max_us: 0,
            host_syncs: Some(host_syncs),
            exits: 0,
            cpu_us: 0,
            disturbed: Some(0.0),
            distribution: Vec::new(),
        }
    }

    fn verdict(alone: u64, many: u64, syncs: u64) -> Result<()> {
        flush(&[
            row(BASE, 1, 45, 45),
            row(OURS, 1, alone, alone),
            row(BASE, 16, 45, 45),
            row(OURS, 16, many, syncs),
        ])
    }

    #[test]
    fn each_ratio_can_fail_by_its_name() {
        verdict(44, 360, 50).unwrap();
        for (rows, said) in [
            ((44, 100, 10), "times the stock-like pair, wanted at least"),
            ((20, 360, 50), "latency"),
            ((44, 360, 300), "host syncs per fsync"),
        ] {
            let error = verdict(rows.0, rows.1, rows.2).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
