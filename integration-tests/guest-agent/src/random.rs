// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Numbers that differ from run to run.

use std::hash::{BuildHasher, RandomState};

/// Returns a number that differs from call to call and from boot to boot.
pub fn number() -> u64 {
    RandomState::new().hash_one(0u8)
}

/// A small generator whose sequence follows from its seed alone (xorshift64*).
#[derive(Clone, Debug)]
pub struct Sequence(u64);

impl Sequence {
    /// Returns the sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns the next number below `limit`; 0 if `limit` is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        number.checked_rem(limit).unwrap_or(0)
    }
}
