// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Builds the lab machine, runs the scenarios in it and collects their results.

fn main() {}
