// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Counts times in buckets that are at most 1/64 of their value wide.

use crate::wire::Latency;

const SUB_BITS: u32 = 6;
const SUB: u64 = 1 << SUB_BITS;

/// Times in microseconds; exact below 128, then to within 1/64.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    min: u64,
    max: u64,
}

/// Values below 2 * SUB have their own bucket; each octave above has SUB buckets.
fn bucket(value: u64) -> usize {
    let shift = value.max(1).ilog2().saturating_sub(SUB_BITS);
    usize::try_from(u64::from(shift) * SUB + (value >> shift)).unwrap_or(usize::MAX)
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(u64::MAX);
    let shift = (bucket / SUB).saturating_sub(1);
    let start = bucket - shift * SUB;
    (start << shift) + ((1 << shift) - 1)
}

impl Histogram {
    pub(super) fn add(&mut self, value: u64) {
        let bucket = bucket(value);
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.min = if self.count == 0 {
            value
        } else {
            self.min.min(value)
        };
        self.max = self.max.max(value);
        self.count += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if other.buckets.len() > self.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.min = if self.count == 0 {
            other.min
        } else {
            self.min.min(other.min)
        };
        self.max = self.max.max(other.max);
        self.count += other.count;
    }

    /// The value that `per_100` percent of all values do not exceed.
    fn percentile(&self, per_100: u64) -> u64 {
        let wanted = (self.count * per_100).div_ceil(100).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper(bucket).min(self.max);
            }
        }
        self.max
    }

    /// The upper bound and count of each bucket that has any.
    pub(super) fn counts(&self) -> Vec<(u64, u64)> {
        let filled = self.buckets.iter().enumerate();
        filled
            .filter(|(_, count)| **count > 0)
            .map(|(bucket, &count)| (upper(bucket).min(self.max), count))
            .collect()
    }

    pub(super) fn latency(&self) -> Latency {
        Latency {
            count: self.count,
            min_us: self.min,
            median_us: if self.count == 0 {
                0
            } else {
                self.percentile(50)
            },
            p99_us: if self.count == 0 {
                0
            } else {
                self.percentile(99)
            },
            max_us: self.max,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_is_narrow_and_holds_its_value(value in 0..1u64 << 50) {
            let upper = upper(bucket(value));
            prop_assert!(upper >= value);
            prop_assert!(upper - value <= value / SUB, "{value} in a bucket up to {upper}");
        }

        #[test]
        fn percentiles_are_those_of_the_sorted_values(
            mut values in prop::collection::vec(0..1u64 << 40, 1..300),
            split in 0usize..300,
        ) {
            let split = split.min(values.len());
            let mut histogram = Histogram::default();
            let mut second = Histogram::default();
            values[..split].iter().for_each(|&value| histogram.add(value));
            values[split..].iter().for_each(|&value| second.add(value));
            histogram.merge(&second);
            values.sort_unstable();
            let latency = histogram.latency();
            prop_assert_eq!(latency.count, u64::try_from(values.len()).unwrap());
            prop_assert_eq!(latency.min_us, values[0]);
            prop_assert_eq!(latency.max_us, values[values.len() - 1]);
            let exact = values[values.len().div_ceil(2) - 1];
            prop_assert!(latency.median_us >= exact && latency.median_us <= exact + exact / SUB);
            let mut below = 0;
            for (upper, count) in histogram.counts() {
                below += count;
                let exact = values.iter().filter(|&&value| value <= upper).count();
                prop_assert_eq!(below, u64::try_from(exact).unwrap());
            }
            prop_assert_eq!(below, latency.count);
        }
    }
}
