// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! Models of the nine properties for loom, on the code that goes into the module.
//!
//! Each file has the models of some properties. A model explores all interleavings of its two
//! to four threads: really all with [`check_all`], else all with at most so many preemptions.
//! `LOOM_MAX_PREEMPTIONS` overrides the bounds.

use std::env;

use loom::model::Builder;

mod commit;
mod failure;
mod removal;
mod suspend;
// No model: the model run is optimised, so that all values can be gone through.
#[path = "../sequential/verdicts.rs"]
mod verdicts;
mod world;

/// Explores a model, whatever it takes.
fn check_all(model: impl Fn() + Sync + Send + 'static) {
    explore(None, model);
}

/// Explores a model within a number of preemptions.
fn check_within(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    explore(Some(preemptions), model);
}

fn explore(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    if env::var_os("LOOM_MAX_PREEMPTIONS").is_none() {
        builder.preemption_bound = preemptions;
    }
    builder.max_branches = 10_000;
    builder.check(model);
}
