// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `lab test`: what there is to run, what of it was asked for, and what came out.
//!
//! libtest-mimic does the listing, the printing and the counting. Its trials only wait: the work is
//! done behind them by [`run`](run::run), first what runs on the host, one after the other, then the
//! scenarios, in as many labs as there are processors.

mod batch;
mod catalogue;
mod options;
mod pool;
mod report;
mod run;
mod workspace;

pub use options::{Options, Target};
pub use pool::{Pool, Request};
pub use report::{Verdict, commit};
pub use run::main;
