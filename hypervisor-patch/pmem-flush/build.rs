// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! Declares the crate's own `cfg`, so that it builds without a warning in a
//! workspace whose lint table does not know of it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(loom)");
}
