// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! From rows to figures: medians, and ratios of neighbours.

use serde::Deserialize;
use serde_json::Value;

/// A row that was disturbed for a larger share of its time does not count.
pub const DISTURBED: f64 = 0.05;

/// A row of `bench-flush`, as far as it is needed here.
#[derive(Clone, Debug, Deserialize)]
pub struct FlushRow {
    /// `serial`, `engine`, `stock`, `patched`.
    pub device: String,
    /// `c` or `rust`.
    pub driver: String,
    /// Threads in fsync.
    pub threads: u64,
    /// What a flush of the disk takes.
    pub cost_ms: u64,
    /// Rows of one round are neighbours.
    pub round: u64,
    /// How long the load ran.
    pub elapsed_ms: u64,
    /// fsyncs that returned 0.
    pub fsyncs: u64,
    /// Median of one fsync's time.
    pub median_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
    /// Syncs of the host's file, if counted.
    pub host_syncs: Option<u64>,
    /// VM exits.
    pub exits: u64,
    /// CPU time of the VMM with its guest.
    pub cpu_us: u64,
    /// Share of the time that the lab waited for a processor.
    pub disturbed: Option<f64>,
    /// Upper bounds in microseconds, and how many.
    #[serde(default)]
    pub distribution: Vec<(u64, u64)>,
}

impl FlushRow {
    /// Throughput.
    pub fn per_second(&self) -> f64 {
        ratio(self.fsyncs * 1000, self.elapsed_ms)
    }

    /// Host syncs for each fsync.
    pub fn syncs_per_fsync(&self) -> Option<f64> {
        Some(ratio(self.host_syncs?, self.fsyncs))
    }

    /// True if the machine was the lab's own meanwhile.
    pub fn is_quiet(&self) -> bool {
        self.disturbed.is_some_and(|share| share <= DISTURBED)
    }

    /// Device and driver.
    pub fn side(&self) -> (&str, &str) {
        (&self.device, &self.driver)
    }
}

/// `a / b`, 0 without a `b`.
pub fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let ratio = a as f64 / b as f64;
    ratio
}

/// Rows of one kind.
pub fn rows<T: for<'a> Deserialize<'a>>(values: &[Value]) -> Result<Vec<T>, serde_json::Error> {
    values
        .iter()
        .map(|value| serde_json::from_value(value.clone()))
        .collect()
}

/// The middle value; of an even number the mean of the two. None of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// A cell of threads × cost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cell {
    /// Threads in fsync.
    pub threads: u64,
    /// What a flush of the disk takes.
    pub cost_ms: u64,
}

impl Cell {
    fn holds(self, row: &FlushRow) -> bool {
        row.threads == self.threads && row.cost_ms == self.cost_ms
    }
}

/// What a pair of neighbours says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The median of `figure(b) / figure(a)`; none if no pair is left.
    pub value: Option<f64>,
    /// Of so many pairs.
    pub pairs: usize,
    /// Pairs that were dropped because the machine was disturbed.
    pub dropped: usize,
}

/// Compares two sides in a cell, round by round.
pub fn compare(
    rows: &[FlushRow],
    cell: Cell,
    a: (&str, &str),
    b: (&str, &str),
    figure: impl Fn(&FlushRow) -> f64,
) -> Ratio {
    let of = |side: (&str, &str)| {
        let side = (side.0.to_owned(), side.1.to_owned());
        rows.iter()
            .filter(move |row| cell.holds(row) && row.side() == (&side.0, &side.1))
    };
    let mut values = Vec::new();
    let mut dropped = 0;
    for first in of(a) {
        let Some(second) = of(b).find(|row| row.round == first.round) else {
            continue;
        };
        if first.is_quiet() && second.is_quiet() {
            let base = figure(first);
            if base > 0.0 {
                values.push(figure(second) / base);
            }
        } else {
            dropped += 1;
        }
    }
    let pairs = values.len();
    Ratio {
        value: median(values),
        pairs,
        dropped,
    }
}

/// The median of a figure over a side's quiet rows in a cell.
pub fn typical(
    rows: &[FlushRow],
    cell: Cell,
    side: (&str, &str),
    figure: impl Fn(&FlushRow) -> f64,
) -> Option<f64> {
    let of_side = rows
        .iter()
        .filter(|row| cell.holds(row) && row.side() == side && row.is_quiet());
    median(of_side.map(figure))
}

/// The values of a field that are there, in order.
pub fn distinct(rows: &[FlushRow], field: impl Fn(&FlushRow) -> u64) -> Vec<u64> {
    let mut values: Vec<u64> = rows.iter().map(field).collect();
    values.sort_unstable();
    values.dedup();
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(device: &str, round: u64, fsyncs: u64, disturbed: f64) -> FlushRow {
        FlushRow {
            device: device.to_owned(),
            driver: "c".to_owned(),
            threads: 16,
            cost_ms: 20,
            round,
            elapsed_ms: 1000,
            fsyncs,
            median_us: 0,
            p99_us: 0,
            max_us: 0,
            host_syncs: Some(10),
            exits: 0,
            cpu_us: 0,
            disturbed: Some(disturbed),
            distribution: Vec::new(),
        }
    }

    const CELL: Cell = Cell {
        threads: 16,
        cost_ms: 20,
    };

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn medians() {
        assert_eq!(median([]), None);
        assert!(near(median([3.0, 1.0, 2.0]).unwrap(), 2.0));
        assert!(near(median([4.0, 1.0, 2.0, 3.0]).unwrap(), 2.5));
    }

    #[test]
    fn only_neighbours_are_compared_and_disturbed_ones_dropped() {
        let rows = [
            row("serial", 0, 100, 0.0),
            row("engine", 0, 200, 0.0),
            row("serial", 1, 100, 0.2),
            row("engine", 1, 900, 0.0),
            row("serial", 2, 50, 0.0),
            row("engine", 2, 200, 0.0),
            row("serial", 3, 50, 0.0),
        ];
        let found = compare(&rows, CELL, ("serial", "c"), ("engine", "c"), |row| {
            row.per_second()
        });
        assert!(near(found.value.unwrap(), 3.0));
        assert_eq!((found.pairs, found.dropped), (2, 1));
        let other = Cell { threads: 1, ..CELL };
        let none = compare(&rows, other, ("serial", "c"), ("engine", "c"), |row| {
            row.per_second()
        });
        assert_eq!((none.value, none.pairs, none.dropped), (None, 0, 0));
        let loud = compare(&rows[2..4], CELL, ("serial", "c"), ("engine", "c"), |row| {
            row.per_second()
        });
        assert_eq!((loud.value, loud.dropped), (None, 1));
    }

    #[test]
    fn a_row_without_a_known_disturbance_is_not_quiet() {
        let unknown = FlushRow {
            disturbed: None,
            ..row("serial", 0, 1, 0.0)
        };
        assert!(!unknown.is_quiet());
        assert!(near(
            row("serial", 0, 100, 0.0).syncs_per_fsync().unwrap(),
            0.1
        ));
    }
}
