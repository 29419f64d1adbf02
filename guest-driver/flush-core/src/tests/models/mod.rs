// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! Models of the nine properties for loom, on the code that goes into the module.
//!
//! Each file has the models of some properties. Every model explores all interleavings of its
//! two to four threads within [`PREEMPTIONS`] preemptions, unless it says otherwise.

use std::env;

use loom::model::Builder;

mod commit;
mod failure;
mod removal;
mod suspend;
mod world;

/// Preemptions explored in each execution.
const PREEMPTIONS: usize = 3;

/// Explores a model.
fn check(model: impl Fn() + Sync + Send + 'static) {
    check_within(PREEMPTIONS, model);
}

/// Explores a model within a number of preemptions.
fn check_within(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    if env::var_os("LOOM_MAX_PREEMPTIONS").is_some() {
        builder.preemption_bound = Builder::new().preemption_bound;
    }
    builder.max_branches = 10_000;
    builder.check(model);
}
