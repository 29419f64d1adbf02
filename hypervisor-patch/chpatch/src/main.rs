// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Checks, applies, reverts and records the cloud-hypervisor patch series.

fn main() {}
