// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A small KVM virtual machine monitor that hosts the flush engine under test.

fn main() {}
