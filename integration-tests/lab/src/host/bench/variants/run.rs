// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One run in simulated time: threads that write and flush, the guest's side, the host's side.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use flush_core::Cookie;
use guest_agent::random::Sequence;

use crate::host::bench::variants::guest::{Guest, Thread};
use crate::host::bench::variants::host::{Batch, Host, Kind};

/// Nanoseconds of simulated time.
pub type Time = u64;

/// From a kick to the host's thread, and from its answer to the guest's interrupt.
const WAY: Time = 20_000;

/// What is run.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How the host syncs.
    pub host: Kind,
    /// What a sync takes, within a tenth more or less.
    pub cost: Time,
    /// What a thread needs of the guest's one processor between two flushes: to wake up, to write.
    pub turn: Time,
    /// What a thread does besides between two flushes, on average: 0 to twice as much.
    pub think: Time,
    /// How long the guest's side waits if it waits for more flushes.
    pub window: Time,
    /// Threads.
    pub threads: usize,
    /// Flushes that are measured, of all threads together.
    pub flushes: usize,
    /// Of everything random.
    pub seed: u64,
}

/// What came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Simulated time.
    pub elapsed: Time,
    /// Each flush's time, in order.
    pub times: Vec<Time>,
    /// Syncs of the host.
    pub syncs: u64,
}

#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    Flush(Thread),
    Arrived(Cookie),
    Synced(Batch),
    Answered(Batch),
    WindowOver,
}

struct Run<'a> {
    load: Load,
    guest: &'a mut dyn Guest,
    host: Host,
    now: Time,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    order: u64,
    random: Sequence,
    /// When the guest's processor is free again.
    processor: Time,
    since: Vec<Time>,
    times: Vec<Time>,
}

/// Runs it until so many flushes have ended.
pub fn run(load: Load, guest: &mut dyn Guest) -> Outcome {
    let mut run = Run {
        load,
        guest,
        host: Host::new(load.host),
        now: 0,
        events: BinaryHeap::new(),
        order: 0,
        random: Sequence::new(load.seed),
        processor: 0,
        since: vec![0; load.threads],
        times: Vec::new(),
    };
    for thread in 0..load.threads {
        run.turn(thread);
    }
    while run.times.len() < load.flushes {
        let Some(Reverse((at, _, event))) = run.events.pop() else {
            break;
        };
        run.now = at;
        run.handle(event);
    }
    let mut times = run.times;
    times.sort_unstable();
    Outcome {
        elapsed: run.now,
        times,
        syncs: run.host.syncs,
    }
}

impl Run<'_> {
    fn at(&mut self, time: Time, event: Event) {
        // What is due at the same moment comes in the order it was planned in.
        self.order += 1;
        self.events.push(Reverse((time, self.order, event)));
    }

    /// A thread does its work and flushes.
    fn turn(&mut self, thread: Thread) {
        self.processor = self.processor.max(self.now) + self.load.turn;
        let think = self.random.below(2 * self.load.think + 1);
        self.at(self.processor + think, Event::Flush(thread));
    }

    fn sync(&mut self, batch: Option<Batch>) {
        let Some(batch) = batch else { return };
        let tenth = self.load.cost / 10;
        let cost = self.load.cost - tenth + self.random.below(2 * tenth + 1);
        self.at(self.now + cost, Event::Synced(batch));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Flush(thread) => {
                self.since[thread] = self.now;
                self.guest.flush(thread);
            }
            Event::Arrived(cookie) => {
                let batch = self.host.request(cookie);
                self.sync(batch);
            }
            Event::Synced(batch) => {
                self.at(self.now + WAY, Event::Answered(batch));
                let next = self.host.synced();
                self.sync(next);
            }
            Event::Answered(batch) => {
                for cookie in batch {
                    self.guest.answered(cookie);
                }
            }
            Event::WindowOver => self.guest.window_over(),
        }
        let wishes = self.guest.wishes();
        for cookie in wishes.published {
            self.at(self.now + WAY, Event::Arrived(cookie));
        }
        if wishes.window {
            self.at(self.now + self.load.window, Event::WindowOver);
        }
        for thread in wishes.ended {
            self.times.push(self.now - self.since[thread]);
            self.turn(thread);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::bench::variants::guest::{Model, Real, Rule, Window};

    const AS_IT_IS: Rule = Rule {
        in_flight: 1,
        window: Window::None,
    };

    const LOAD: Load = Load {
        host: Kind::Engine,
        cost: 20_000_000,
        turn: 20_000,
        think: 0,
        window: 1_000_000,
        threads: 16,
        flushes: 3_000,
        seed: 7,
    };

    #[test]
    fn the_model_without_a_change_is_flush_core() {
        for host in Kind::ALL {
            for (threads, think) in [(1, 0), (2, 0), (16, 0), (16, 30_000_000), (64, 1_000_000)] {
                for seed in 0..3 {
                    let load = Load {
                        host,
                        threads,
                        think,
                        seed,
                        ..LOAD
                    };
                    let real = run(load, &mut Real::new());
                    let model = run(load, &mut Model::new(AS_IT_IS));
                    assert_eq!(real, model, "{load:?}");
                }
            }
        }
    }

    #[test]
    fn sixteen_threads_share_two_requests_a_round() {
        let outcome = run(LOAD, &mut Real::new());
        let flushes = u64::try_from(outcome.times.len()).unwrap();
        let per_thousand = outcome.syncs * 1000 / flushes;
        assert!((120..=130).contains(&per_thousand), "{per_thousand}");
    }

    #[test]
    fn a_thread_alone_takes_the_cost_and_two_ways() {
        let load = Load { threads: 1, ..LOAD };
        let outcome = run(load, &mut Real::new());
        let shortest = LOAD.cost * 9 / 10 + 2 * WAY;
        let longest = LOAD.cost * 11 / 10 + 2 * WAY;
        assert!(outcome.times[0] >= shortest && outcome.times[0] < shortest + 200_000);
        let last = outcome.times[outcome.times.len() - 1];
        assert!(last <= longest && last > longest - 200_000);
    }

    #[test]
    fn a_window_costs_a_thread_alone_its_length() {
        let load = Load { threads: 1, ..LOAD };
        let rule = Rule {
            window: Window::Always,
            ..AS_IT_IS
        };
        let plain = run(load, &mut Real::new());
        let waits = run(load, &mut Model::new(rule));
        let middle = plain.times.len() / 2;
        assert_eq!(waits.times[middle], plain.times[middle] + load.window);
    }
}
