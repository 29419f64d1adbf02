// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! What shows that the rules hold, and that the tests would notice if they did not.

mod inspect;
#[cfg(loom)]
mod models;
mod mutations;
#[cfg(not(loom))]
mod sequential;
