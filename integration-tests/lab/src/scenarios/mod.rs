// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The scenarios: each one a function with a name.

use std::time::Duration;

use anyhow::Result;

use crate::inside::context::Context;

/// One scenario.
pub struct Scenario {
    /// The groups it belongs to (`lab`, `demo`, …), for filtering.
    pub groups: &'static [&'static str],
    /// The most time one trial of it may take.
    pub limit: Duration,
    /// Its name, as the command line has it.
    pub name: &'static str,
    /// The defect that makes it fail, so that a reader knows it can.
    pub control: &'static str,
    /// Its code.
    pub run: fn(&mut Context) -> Result<()>,
    /// What it shows, one line.
    pub summary: &'static str,
}

/// Every scenario, in the order a reader meets them.
pub const ALL: &[Scenario] = &[];

/// The scenario with this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}
