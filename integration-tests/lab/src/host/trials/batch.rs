// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! How the scenarios are shared out to the labs.
//!
//! A boot costs as much as a short scenario, so a lab gets several; but the last ones shall end
//! together. So batches get smaller towards the end, and the long scenarios go first.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Duration;

/// How many labs run at once: one per processor, as far as memory and work go, and one at least.
pub fn labs(processors: usize, meminfo: &str, scenarios: usize) -> usize {
    let available = meminfo.lines().find_map(|line| {
        let words = line.strip_prefix("MemAvailable:")?;
        words.split_whitespace().next()?.parse::<usize>().ok()
    });
    let fit = available.map_or(1, |kib| kib / LAB_KIB);
    processors.min(fit).min(scenarios).max(1)
}

/// What one lab's QEMU takes at most: its memory and its translation cache.
const LAB_KIB: usize = 3800 << 10;

/// Sorts by cost, dearest first. Equal ones keep their order.
pub fn sorted<T>(mut items: Vec<T>, cost: impl Fn(&T) -> Duration) -> VecDeque<T> {
    items.sort_by_key(|item| Reverse(cost(item)));
    items.into()
}

/// Takes the next batch for one of `labs`: half of an even share of what is left.
pub fn next<T>(queue: &mut VecDeque<T>, labs: usize) -> Vec<T> {
    let size = queue.len().div_ceil(2 * labs.max(1));
    queue.drain(..size).collect()
}

/// Puts back what a lab did not come to.
pub fn put_back<T>(queue: &mut VecDeque<T>, items: Vec<T>) {
    for item in items.into_iter().rev() {
        queue.push_front(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_shared_out_once_in_batches_that_shrink() {
        let mut queue: VecDeque<_> = (0..13).collect();
        let mut sizes = Vec::new();
        let mut all = Vec::new();
        loop {
            let batch = next(&mut queue, 2);
            if batch.is_empty() {
                break;
            }
            sizes.push(batch.len());
            all.extend(batch);
        }
        assert_eq!(all, (0..13).collect::<Vec<_>>());
        assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
        assert_eq!((sizes[0], sizes[sizes.len() - 1]), (4, 1));
    }

    #[test]
    fn one_lab_gets_all_in_few_batches_and_no_labs_is_one() {
        let mut queue: VecDeque<_> = (0..8).collect();
        assert_eq!(next(&mut queue, 1).len(), 4);
        assert_eq!(next(&mut queue, 0).len(), 2);
    }

    #[test]
    fn labs_are_bounded_by_processors_memory_and_work() {
        let memory = |gib: usize| format!("MemTotal: 1 kB\nMemAvailable: {} kB\n", gib << 20);
        assert_eq!(labs(2, &memory(16), 13), 2);
        assert_eq!(labs(8, &memory(16), 13), 4);
        assert_eq!(labs(8, &memory(64), 3), 3);
        assert_eq!(labs(8, &memory(2), 3), 1);
        assert_eq!(labs(8, "", 3), 1);
    }

    #[test]
    fn the_dearest_goes_first_and_what_is_put_back_is_next() {
        let mut queue = sorted(vec![1, 3, 2], |&n| Duration::from_secs(n));
        let batch = next(&mut queue, 1);
        assert_eq!(batch, [3, 2]);
        put_back(&mut queue, batch);
        assert_eq!(queue, [3, 2, 1]);
    }
}
