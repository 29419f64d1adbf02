// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Would flush-core be better with two requests in flight, or with a short wait for more flushes? In
//! simulated time, without a guest: what counts is how flushes meet, and that is the same sequence of
//! events on each machine.
//!
//! Today's rule is flush-core itself. The others are a model, of which a test shows that without its
//! change it does what flush-core does, event for event.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::host::bench::analysis::median;
use crate::host::bench::file::{self, File};
use crate::host::bench::variants::guest::{Guest, Model, Real, Rule, Window};
use crate::host::bench::variants::host::Kind;
use crate::host::bench::variants::run::{Load, Time, run};
use crate::host::progress::Progress;
use crate::host::trials::commit;

mod guest;
mod host;
mod run;

const MS: Time = 1_000_000;

/// Threads.
pub const THREADS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const COSTS: [Time; 3] = [MS / 5, 2 * MS, 20 * MS];
/// What a thread needs of the processor for each flush: hardware, and the emulated guest of the lab.
const TURN: Time = MS / 50;
const SLOW_TURN: Time = MS * 3 / 2;

/// What threads do between two flushes: its name, the processor's time, the other time in parts of a sync's
/// cost.
const WORK: [(&str, Time, u64); 3] = [
    (FLUSHES_ONLY, TURN, 0),
    (WORKS, TURN, 1),
    (SLOW, SLOW_TURN, 0),
];
/// Nothing but the write.
pub const FLUSHES_ONLY: &str = "none";
/// Other work that takes as long as a sync.
pub const WORKS: &str = "as long as a sync";
/// Nothing but the write, and a processor that needs long for it.
pub const SLOW: &str = "none, slow processor";
/// A window is so small a part of a sync's cost.
const WINDOW: u64 = 20;
/// The same random numbers for each variant in a round.
const ROUNDS: u64 = 7;
const FLUSHES: usize = 3_000;

/// The rule as it is, as the results call it.
pub const TODAY: &str = "flush-core";

/// The changes, by the names in the results.
const CHANGES: [(&str, Rule); 3] = [
    (
        "two in flight",
        Rule {
            in_flight: 2,
            window: Window::None,
        },
    ),
    (
        "window",
        Rule {
            in_flight: 1,
            window: Window::Always,
        },
    ),
    (
        "window in company",
        Rule {
            in_flight: 1,
            window: Window::InCompany,
        },
    ),
];

/// One variant in one cell: medians of the rounds, ratios of the same round.
#[derive(Debug, Deserialize, Serialize)]
pub struct Row {
    /// `engine`, `serial`, `overlapping`.
    pub host: String,
    /// What a sync takes.
    pub cost_us: u64,
    /// What a thread does between two flushes.
    pub work: String,
    /// What it needs of the processor then.
    pub turn_us: u64,
    /// And besides, on average.
    pub think_us: u64,
    /// Threads.
    pub threads: usize,
    /// A rule's name.
    pub variant: String,
    /// Rounds.
    pub rounds: u64,
    /// Flushes in each.
    pub flushes: usize,
    /// Throughput.
    pub per_second: f64,
    /// The middle flush.
    pub p50_us: f64,
    /// The 99th of a hundred.
    pub p99_us: f64,
    /// Host syncs for each flush.
    pub syncs_per_flush: f64,
    /// Throughput as a multiple of today's.
    pub times: f64,
    /// The least of the rounds.
    pub times_least: f64,
    /// The most of the rounds.
    pub times_most: f64,
    /// The middle flush's time as a multiple of today's.
    pub p50_times: f64,
}

/// What a round of a variant came to.
#[derive(Clone, Copy)]
struct Figures {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    syncs_per_flush: f64,
}

/// Runs all of them.
pub fn measure(progress: &Progress) -> Result<File> {
    let mut rows = Vec::new();
    for host in Kind::ALL {
        for cost in COSTS {
            progress.step(&format!(
                "variants of flush-core: {} at {} µs",
                host.name(),
                cost / 1000
            ));
            for (work, turn, share) in WORK {
                for threads in THREADS {
                    let load = Load {
                        host,
                        cost,
                        turn,
                        think: share * cost,
                        window: cost / WINDOW,
                        threads,
                        flushes: FLUSHES,
                        seed: 0,
                    };
                    for row in cell(load, work)? {
                        rows.push(serde_json::to_value(row)?);
                    }
                }
            }
        }
    }
    Ok(File {
        name: "variants".to_owned(),
        date: file::today()?,
        commit: commit()?,
        machine: file::this_machine(),
        quick: false,
        settings: Map::new(),
        rows,
        others: Map::from_iter([("window_share".to_owned(), json!(1.0 / 20.0))]),
    })
}

fn cell(load: Load, work: &str) -> Result<Vec<Row>> {
    let of = |make: &dyn Fn() -> Box<dyn Guest>| -> Vec<Figures> {
        (1..=ROUNDS)
            .map(|seed| figures(Load { seed, ..load }, make().as_mut()))
            .collect()
    };
    let today = of(&|| Box::new(Real::new()));
    let mut rows = vec![row(load, work, TODAY, &today, &today)?];
    for (name, rule) in CHANGES {
        let changed = of(&|| Box::new(Model::new(rule)));
        rows.push(row(load, work, name, &changed, &today)?);
    }
    Ok(rows)
}

fn figures(load: Load, guest: &mut dyn Guest) -> Figures {
    let outcome = run(load, guest);
    let flushes = count(outcome.times.len());
    let at = |percent: usize| {
        let index = outcome.times.len().saturating_sub(1) * percent / 100;
        outcome.times.get(index).map_or(0.0, |&time| micros(time))
    };
    Figures {
        per_second: flushes / (micros(outcome.elapsed) / 1e6),
        p50_us: at(50),
        p99_us: at(99),
        syncs_per_flush: micros(outcome.syncs * 1000) / flushes,
    }
}

fn row(load: Load, work: &str, variant: &str, own: &[Figures], today: &[Figures]) -> Result<Row> {
    let middle = |get: fn(&Figures) -> f64| median(own.iter().map(get)).context("no rounds");
    let ratios = |get: fn(&Figures) -> f64| -> Vec<f64> {
        own.iter()
            .zip(today)
            .map(|(own, today)| get(own) / get(today))
            .collect()
    };
    let times = ratios(|figures| figures.per_second);
    Ok(Row {
        host: load.host.name().to_owned(),
        cost_us: load.cost / 1000,
        work: work.to_owned(),
        turn_us: load.turn / 1000,
        think_us: load.think / 1000,
        threads: load.threads,
        variant: variant.to_owned(),
        rounds: ROUNDS,
        flushes: load.flushes,
        per_second: middle(|figures| figures.per_second)?,
        p50_us: middle(|figures| figures.p50_us)?,
        p99_us: middle(|figures| figures.p99_us)?,
        syncs_per_flush: middle(|figures| figures.syncs_per_flush)?,
        times_least: times.iter().copied().fold(f64::MAX, f64::min),
        times_most: times.iter().copied().fold(0.0, f64::max),
        times: median(times).context("no rounds")?,
        p50_times: median(ratios(|figures| figures.p50_us)).context("no rounds")?,
    })
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn micros(time: Time) -> f64 {
    time as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}

/// The rows of a file.
pub fn rows(values: &[Value]) -> Result<Vec<Row>, serde_json::Error> {
    values
        .iter()
        .map(|value| serde_json::from_value(value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_has_a_row_for_each_variant_and_today_is_its_own_multiple() {
        let load = Load {
            host: Kind::Engine,
            cost: 20 * MS,
            turn: TURN,
            think: 0,
            window: MS,
            threads: 16,
            flushes: 500,
            seed: 0,
        };
        let rows = cell(load, FLUSHES_ONLY).unwrap();
        assert_eq!(rows.len(), 1 + CHANGES.len());
        assert_eq!(rows[0].variant, TODAY);
        assert!((rows[0].times - 1.0).abs() < 1e-9);
        // A second request goes out with one flush in it, and the engine syncs for it.
        assert!(rows[1].syncs_per_flush > rows[0].syncs_per_flush);
        // Everyone who flushes again at once is there when the window closes.
        assert!(rows[2].times > 1.5, "{}", rows[2].times);
    }
}
