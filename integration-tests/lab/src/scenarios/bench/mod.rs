// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The benchmarks that need a lab. Each writes its rows as measurements `row-0001`, …, so that
//! those of a run that ends early are not lost.

use anyhow::Result;
use serde::Serialize;

use crate::inside::context::Context;

pub mod filesystems;
pub mod flush;
pub mod pair;
pub mod pause;
pub mod snapshot;
mod stats;
pub mod sync_calls;

/// Numbers the rows.
#[derive(Default)]
struct Rows(u32);

impl Rows {
    fn add(&mut self, context: &Context, row: &impl Serialize) {
        self.0 += 1;
        context.measure(&format!("row-{:04}", self.0), row);
    }
}

/// A list of numbers the user may set with `--set NAME=1,2,3`.
fn numbers(context: &Context, name: &str, default: &[u64]) -> Result<Vec<u64>> {
    let Some(text) = context.trial.options.get(name) else {
        return Ok(default.to_vec());
    };
    text.split(',')
        .map(|number| {
            number
                .trim()
                .parse()
                .map_err(|_| anyhow::anyhow!("--set {name}={text}: `{number}` is no whole number"))
        })
        .collect()
}
