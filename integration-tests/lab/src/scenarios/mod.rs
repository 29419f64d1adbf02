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
mod cloud_hypervisor;
mod cuts;
mod driver;
mod filesystems;
mod hostile;
mod snapshots;
mod soak;
mod storage;
mod support;
mod suspends;

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

/// The scenarios by subject, in the order a reader meets them.
const SUBJECTS: &[&[Scenario]] = &[
    filesystems::ALL,
    snapshots::ALL,
    storage::ALL,
    hostile::ALL,
    driver::ALL,
    suspends::ALL,
    cuts::ALL,
    cloud_hypervisor::ALL,
    soak::ALL,
    bench::ALL,
];

/// Every scenario.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    SUBJECTS.iter().copied().flatten()
}

/// Options that say how often a scenario does what it does.
const REPEATS: [&str; 3] = ["cycles", "rounds", "slow_cycles"];
/// As many of them as every scenario's own limit has room for.
const REPEATS_IN_LIMIT: u32 = 5;

/// The most time this trial of a scenario may take: one that is told how long to go on
/// (`minutes`) gets that on top, one that is told how often gets its limit that many times.
pub fn limit(scenario: &Scenario, trial: &Trial) -> Duration {
    let number = |name| trial.options.get(name)?.parse::<u32>().ok();
    let repeats = REPEATS.into_iter().filter_map(number).max().unwrap_or(0);
    let times = repeats.div_ceil(REPEATS_IN_LIMIT).max(1);
    scenario.limit * times + Duration::from_secs(60) * number("minutes").unwrap_or(0)
}

/// The scenario with this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    all().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_is_there_once() {
        let names: HashSet<_> = all().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all().count());
    }
}
