// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! Deliberate faults, compiled into tests only.
//!
//! A test build runs with the fault that `FLUSH_CORE_MUTATION` names. The
//! tests show with it that each rule's model fails when the rule is broken;
//! in any other build `mutant!` is the literal `false`.

/// Whether the fault of this name is switched on.
#[cfg(test)]
macro_rules! mutant {
    ($name:literal) => {
        $crate::mutation::active($name)
    };
}

/// Whether the fault of this name is switched on: never, outside tests.
#[cfg(not(test))]
macro_rules! mutant {
    ($name:literal) => {
        false
    };
}

/// Whether `FLUSH_CORE_MUTATION` names this fault.
#[cfg(test)]
pub(crate) fn active(name: &str) -> bool {
    use std::env;
    use std::string::String;
    use std::sync::OnceLock;

    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    CHOSEN
        .get_or_init(|| env::var("FLUSH_CORE_MUTATION").ok())
        .as_deref()
        == Some(name)
}

/// Allocates, if that is the fault.
#[cfg(test)]
pub(crate) fn allocate() {
    use std::boxed::Box;

    if mutant!("flush-allocates") {
        drop(Box::new(0_usize));
    }
}
