// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! The rules once more, for one thread, with lists instead of slots.
//!
//! Waiters are numbers. They stand in `parked` until a host flush takes all of them along;
//! a group that has ended is remembered only as long as it holds a slot.

use std::collections::VecDeque;
use std::vec::Vec;

use super::fake::SLOTS;
use super::steps::{Answer, Refused, Step};
use crate::{Counters, Device, Error, Ticks};

/// Told to a waiter.
type Told = Result<(), Error>;

/// Waiters of one host flush.
#[derive(Debug, Default)]
struct Group {
    tasks: Vec<usize>,
    bios: Vec<usize>,
    since: Ticks,
}

/// A group that has ended.
#[derive(Debug)]
struct Over {
    /// Tasks that have not read their result.
    tasks: Vec<usize>,
    told: Told,
    /// Where the host's answer to it is expected: in the order of publishing.
    with_host: bool,
}

/// The reference model.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) device: Device,
    up: bool,
    ring: bool,
    clock: Ticks,
    flush_timeout: Ticks,
    /// Since when and how long, of a removal or shutdown.
    bound: Option<(Ticks, Ticks)>,
    parked: Option<Group>,
    flight: Option<Group>,
    over: Vec<Over>,
    /// Answers given whose interrupt was lost.
    lost: VecDeque<Answer>,
    answered_before: bool,
    /// Groups that the host answered.
    answered: u64,
    broken: bool,
    needs_reset: bool,
    kick_fails: bool,
    refuse: Option<Refused>,
    script: VecDeque<Step>,
    waiters: usize,
    /// Flushes that were turned away.
    pub(super) refused: u64,
    pub(super) ended: Vec<(usize, Told)>,
    pub(super) events: usize,
    pub(super) counters: Counters,
}

impl Reference {
    pub(super) fn new(flush_timeout: Ticks) -> Self {
        Self {
            device: Device::Live,
            up: true,
            ring: true,
            clock: 0,
            flush_timeout,
            bound: None,
            parked: None,
            flight: None,
            over: Vec::new(),
            lost: VecDeque::new(),
            answered_before: false,
            answered: 0,
            broken: false,
            needs_reset: false,
            kick_fails: false,
            refuse: None,
            script: VecDeque::new(),
            waiters: 0,
            refused: 0,
            ended: Vec::new(),
            events: 0,
            counters: Counters::default(),
        }
    }

    /// Requests that the ring holds.
    pub(super) fn held(&self) -> usize {
        let over = self.over.iter().filter(|over| over.with_host).count();
        over + usize::from(self.flight.is_some())
    }

    pub(super) fn counted(&self) -> Counters {
        let parked = self.parked.as_ref();
        Counters {
            in_flight: u64::from(self.flight.is_some()),
            parked: parked.map_or(0, Group::size),
            ..self.counters
        }
    }

    /// Does one step; returns what the caller is told, as an errno.
    pub(super) fn apply(&mut self, step: &Step) -> i32 {
        match step {
            Step::Task => self.enter(|group, number| group.tasks.push(number)),
            Step::Bio => self.enter(|group, number| group.bios.push(number)),
            Step::Collect => self.collect(),
            Step::Host(answer) => {
                self.answer(*answer);
                self.reap();
                0
            }
            Step::Lost(answer) => self.answer(*answer),
            Step::Pass(ticks) => {
                self.clock += ticks;
                0
            }
            Step::Watchdog => {
                let answered = self.answered;
                self.look();
                self.counters.rescued += self.answered - answered;
                i32::from(self.flight.is_some())
            }
            Step::NeedsReset => {
                self.needs_reset = self.up;
                0
            }
            Step::BreakQueue => {
                self.broken = self.up;
                0
            }
            Step::FailKicks(fail) => {
                self.kick_fails = *fail;
                0
            }
            Step::Refuse(refused) => {
                self.refuse = *refused;
                0
            }
            Step::MarkBroken => {
                self.break_with(Error::Broken);
                0
            }
            Step::Freeze(timeout, script) => errno(self.freeze(*timeout, script)),
            Step::Thaw => errno(self.thaw()),
            Step::Reset => errno(self.reset()),
            Step::BeginRemove(bound) => {
                self.look();
                if self.device == Device::Frozen {
                    self.break_with(Error::Broken);
                }
                self.bound = Some((self.clock, *bound));
                0
            }
            Step::Limit(bound) => {
                self.bound = Some((self.clock, *bound));
                0
            }
            Step::FinishRemove(timeout, script) => self.remove(*timeout, script),
        }
    }

    fn enter(&mut self, join: impl FnOnce(&mut Group, usize)) -> i32 {
        let refusal = match self.device {
            Device::Broken => Some(Error::Broken),
            Device::Gone => Some(Error::Gone),
            _ => None,
        };
        if let Some(refusal) = refusal {
            self.refused += 1;
            self.counters.flushes += 1;
            self.counters.errors += 1;
            return refusal.errno();
        }
        let used = self.over.len() + usize::from(self.flight.is_some());
        if self.parked.is_none() && used == SLOTS {
            return -1000;
        }
        join(self.parked.get_or_insert_default(), self.waiters);
        self.waiters += 1;
        self.counters.flushes += 1;
        self.pump();
        0
    }

    fn collect(&mut self) -> i32 {
        let mut read: Vec<(usize, Told)> = Vec::new();
        for over in &mut self.over {
            let told = over.told;
            read.extend(over.tasks.drain(..).map(|task| (task, told)));
        }
        self.ended.extend(read);
        self.over.retain(|over| over.with_host);
        0
    }

    fn pump(&mut self) {
        if self.device != Device::Live || self.flight.is_some() {
            return;
        }
        let Some(mut group) = self.parked.take() else {
            return;
        };
        match self.refuse.take() {
            None => {}
            Some(Refused::NoMemory) => return self.end(group, Err(Error::NoMemory), false),
            Some(Refused::Broken) => {
                self.end(group, Err(Error::Broken), false);
                return self.break_with(Error::Broken);
            }
        }
        self.counters.host_flushes += 1;
        self.counters.coalesced += group.size() - 1;
        group.since = self.clock;
        self.flight = Some(group);
        if self.kick_fails {
            self.break_with(Error::Broken);
        }
    }

    /// Ends a group. It holds its slot while tasks have not read or the host has it.
    fn end(&mut self, group: Group, told: Told, with_host: bool) {
        if told.is_err() {
            self.counters.errors += group.size();
        }
        self.ended.extend(group.bios.iter().map(|bio| (*bio, told)));
        if with_host || !group.tasks.is_empty() {
            self.over.push(Over {
                tasks: group.tasks,
                told,
                with_host,
            });
        }
    }

    fn break_with(&mut self, told: Error) {
        if matches!(self.device, Device::Broken | Device::Gone) {
            return;
        }
        self.device = Device::Broken;
        self.events += 1;
        if told == Error::TimedOut {
            self.counters.timeouts += 1;
        }
        self.end_all(told, Error::Broken);
    }

    fn end_all(&mut self, in_flight: Error, rest: Error) {
        if let Some(group) = self.flight.take() {
            self.end(group, Err(in_flight), true);
        }
        if let Some(group) = self.parked.take() {
            self.end(group, Err(rest), false);
        }
    }

    /// The host gives something back, if it has something to give.
    fn answer(&mut self, answer: Answer) -> i32 {
        let given = |answer: &&Answer| matches!(answer, Answer::Status(..));
        let possible = match answer {
            Answer::Status(..) => self.held() > self.lost.iter().filter(given).count(),
            Answer::Unknown => true,
            Answer::Repeated => self.answered_before,
        };
        if self.up && possible {
            self.lost.push_back(answer);
        }
        0
    }

    fn reap(&mut self) {
        if !self.ring {
            return;
        }
        while let Some(answer) = self.lost.pop_front() {
            self.answered_before = true;
            let Answer::Status(status, len) = answer else {
                return self.break_with(Error::Broken);
            };
            let told = match (status, len) {
                (_, 0..4) => Err(Error::Short),
                (Some(0), _) => Ok(()),
                _ => Err(Error::Host),
            };
            if let Some(late) = self.over.iter_mut().find(|over| over.with_host) {
                late.with_host = false;
                self.over
                    .retain(|over| over.with_host || !over.tasks.is_empty());
            } else if let Some(group) = self.flight.take() {
                self.answered += 1;
                self.end(group, told, false);
                self.pump();
            }
        }
        if self.broken {
            self.break_with(Error::Broken);
        }
    }

    fn look(&mut self) {
        if !self.ring {
            return;
        }
        self.reap();
        if self.needs_reset {
            self.break_with(Error::Broken);
        }
        let Some(published) = self.flight.as_ref().map(|group| group.since) else {
            return;
        };
        let mut deadline = Ticks::MAX;
        if self.flush_timeout > 0 {
            deadline = published + self.flush_timeout;
        }
        if let Some((begun, length)) = self.bound {
            deadline = deadline.min(begun.max(published) + length.max(1));
        }
        if self.clock >= deadline {
            self.break_with(Error::TimedOut);
        }
    }

    /// Lets the script go on until nothing is in flight, or for three ticks.
    fn sleep(&mut self, deadline: Ticks) {
        let until = deadline.min(self.clock + 3);
        while self.device == Device::Draining && self.flight.is_some() && self.clock < until {
            match self.script.pop_front() {
                Some(step) => {
                    self.apply(&step);
                }
                None => self.clock = until,
            }
        }
    }

    fn freeze(&mut self, timeout: Ticks, script: &[Step]) -> Told {
        self.script = script.iter().cloned().collect();
        match self.device {
            Device::Live => self.device = Device::Draining,
            Device::Frozen => {
                self.stop();
                return Ok(());
            }
            Device::Draining => return Err(Error::WrongState),
            Device::Broken => return Err(Error::Broken),
            Device::Gone => return Err(Error::Gone),
        }
        let deadline = self.clock + timeout;
        loop {
            self.look();
            if self.device == Device::Broken {
                return Err(Error::Broken);
            }
            if self.flight.is_none() {
                self.device = Device::Frozen;
                self.ring = false;
                self.stop();
                return Ok(());
            }
            if self.clock >= deadline {
                self.device = Device::Live;
                return Err(Error::Busy);
            }
            self.sleep(deadline);
        }
    }

    fn remove(&mut self, timeout: Ticks, script: &[Step]) -> i32 {
        self.script = script.iter().cloned().collect();
        if self.device == Device::Live {
            self.device = Device::Draining;
        }
        let deadline = self.clock + timeout;
        loop {
            self.look();
            let drained = self.device != Device::Draining || self.flight.is_none();
            if drained || self.clock >= deadline {
                break;
            }
            self.sleep(deadline);
        }
        self.device = Device::Gone;
        self.end_all(Error::Gone, Error::Gone);
        0
    }

    fn thaw(&mut self) -> Told {
        match self.device {
            Device::Frozen => {}
            Device::Live | Device::Draining => return Err(Error::WrongState),
            Device::Broken => return Err(Error::Broken),
            Device::Gone => return Err(Error::Gone),
        }
        self.device = Device::Live;
        self.up = true;
        self.ring = true;
        self.pump();
        Ok(())
    }

    fn reset(&mut self) -> Told {
        if matches!(self.device, Device::Live | Device::Draining) {
            return Err(Error::WrongState);
        }
        self.stop();
        self.ring = false;
        for over in &mut self.over {
            over.with_host = false;
        }
        self.over.retain(|over| !over.tasks.is_empty());
        if self.device == Device::Broken {
            self.device = Device::Frozen;
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.up = false;
        self.lost.clear();
        self.broken = false;
        self.needs_reset = false;
        self.kick_fails = false;
    }
}

impl Group {
    fn size(&self) -> u64 {
        u64::try_from(self.tasks.len() + self.bios.len()).unwrap()
    }
}

/// A result as the errno of a step.
fn errno(told: Told) -> i32 {
    told.map_or_else(Error::errno, |()| 0)
}

/// What has been told, in the order of the waiters.
pub(super) fn sorted(ended: &[(usize, Told)]) -> Vec<(usize, Told)> {
    let mut sorted = ended.to_vec();
    sorted.sort_unstable_by_key(|(number, _)| *number);
    sorted
}
