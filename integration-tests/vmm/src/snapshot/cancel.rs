// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Calls off a snapshot that is being written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that the writer looks at between pieces.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Calls the snapshot off: its writer removes what it wrote and ends.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was called off.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
