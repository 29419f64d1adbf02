// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A program that wants more memory than there is, so that the kernel reclaims all the time.

use std::hint::black_box;
use std::time::{Duration, Instant};

const PAGE: usize = 4096;
/// However long they take.
const ROUNDS: u8 = 2;

/// Writes to each page of `mib` MiB, twice and then over and over for this time, and returns how many
/// pages it wrote. A page that was swapped out comes back for its write and must go out again. The two
/// rounds are for slow machines, on which the time is over before memory is short.
pub fn run(mib: usize, time: Duration) -> Result<u64, String> {
    let bytes = mib
        .checked_mul(1 << 20)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| format!("--mib {mib}: give a size that memory can have"))?;
    let mut memory = vec![0_u8; bytes];
    let end = Instant::now() + time;
    let mut pages = 0;
    for round in 1..=u8::MAX {
        for page in memory.chunks_mut(PAGE) {
            page[0] = round;
            pages += 1;
            // A look at the clock for each page would be slow where clocks are.
            if round > ROUNDS && pages % 64 == 0 && Instant::now() >= end {
                black_box(&memory);
                return Ok(pages);
            }
        }
    }
    black_box(&memory);
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_writes_until_its_time_is_over() {
        let begun = Instant::now();
        let pages = run(1, Duration::ZERO).unwrap();
        assert_eq!(pages, 2 * 256 + 64);
        // 255 rounds at most: it ends though its time is not over.
        assert_eq!(run(1, Duration::from_secs(3600)).unwrap(), 255 * 256);
        assert!(begun.elapsed() < Duration::from_secs(600));
        run(0, Duration::ZERO).unwrap_err();
        run(usize::MAX, Duration::ZERO).unwrap_err();
    }
}
