// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! The second room: what happens next. No thread, no clock, no I/O: time and
//! events are arguments, what to do about them is returned.
//!
//! ```text
//!            begin_drain            nothing popped is unanswered
//!  Running ──────────────► Draining ───────────────────────────► Quiesced
//!    ▲                        │                                      │
//!    ├── deadline, cancel ────┘                                      │
//!    └── resume ─────────────────────────────────────────────────────┘
//!
//!  Failed: the ring is inconsistent. Left by a reset only; can be drained.
//! ```
//!
//! One batch at a time goes through [`Stage`]; nothing is popped unless that is
//! `Idle` and the worker is idle too, which is all there is to closed batches.

use std::mem;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::config::SyncMode;
use crate::counters::Counters;
use crate::error::Error;
use crate::event::Event;
use crate::file_sync::{FileOutcome, FilePoll, FileSync};
use crate::latch::{Latch, LatchCause, SyncErrorPolicy};
use crate::stamp::FileStamp;
use crate::state::EngineState;

/// What a device is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeviceState {
    /// Flushes are taken and answered.
    Running,
    /// Nothing is popped any more, the running sync has not ended yet.
    Draining,
    /// Every popped request is answered, nothing is popped.
    Quiesced,
    /// The ring is inconsistent; the device waits for its driver to reset it.
    Failed,
}

/// How the last drain stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DrainStatus {
    /// None was begun since the device last ran.
    None,
    /// The running sync has not ended yet.
    Pending,
    /// The device is quiesced.
    Drained,
    /// The deadline passed first. The device goes on.
    TimedOut,
    /// A cancel, or a resume, came first. The device goes on.
    Cancelled,
}

/// Names an activation; methods of an earlier one have no effect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Generation(u64);

/// Names one order to the worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ticket(u64);

/// An order to the worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Job {
    pub(crate) ticket: Ticket,
    pub(crate) kind: JobKind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum JobKind {
    /// Sync the file for a batch.
    Flush,
    /// Sync the file, unless nothing gets into it, and stamp it.
    File { sync: bool },
}

/// The worker's report on its order.
#[derive(Debug)]
pub(crate) enum Report {
    Flush(Result<(), LatchCause>),
    File(FileOutcome),
}

/// What was found in the available ring.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Popped {
    pub(crate) requests: u32,
    /// How many of them are flushes; the others are malformed.
    pub(crate) flushes: u32,
    /// What is wrong with the ring.
    pub(crate) ring_fault: Option<&'static str>,
}

/// What the device thread does with what it popped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Nothing is to be done.
    Idle,
    /// The batch waits for its sync.
    Wait,
    /// Answer the batch now.
    Push { flushed: bool },
    /// The device was reset meanwhile: forget the batch.
    Forget,
}

/// Whom to wake and what to tell.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Effects {
    pub(crate) worker: bool,
    pub(crate) device: bool,
    pub(crate) management: bool,
    pub(crate) events: Vec<Event>,
}

impl Effects {
    pub(crate) fn is_none(&self) -> bool {
        !self.worker && !self.device && !self.management && self.events.is_empty()
    }
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Running,
    Draining { since: Instant, deadline: Instant },
    Quiesced,
}

/// Where the one open batch is. `Popping` and `Pushing` are leases: the device
/// thread touches the guest's memory then, without the lock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Idle,
    Popping,
    Syncing(Ticket),
    Synced { flushed: bool },
    Pushing { flushed: bool },
}

/// A wrong turn that the model checker must catch; see `model`. The first one
/// is a [`Fault`](crate::Fault) too, which a power cut must show.
#[cfg(any(loom, feature = "fault-injection"))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mutation {
    PopWhileSyncRuns,
    #[cfg(loom)]
    ParkBeforePush,
    #[cfg(loom)]
    LostCompletionEvent,
}

macro_rules! mutated {
    ($self:ident, PopWhileSyncRuns) => {{
        #[cfg(any(loom, feature = "fault-injection"))]
        let mutated = $self.mutation == Some(Mutation::PopWhileSyncRuns);
        #[cfg(not(any(loom, feature = "fault-injection")))]
        let mutated = false;
        mutated
    }};
    ($self:ident, $mutation:ident) => {{
        #[cfg(loom)]
        let mutated = $self.mutation == Some(Mutation::$mutation);
        #[cfg(not(loom))]
        let mutated = false;
        mutated
    }};
}

#[derive(Debug)]
pub(crate) struct Coordinator {
    sync: SyncMode,
    phase: Phase,
    drain: DrainStatus,
    generation: Generation,
    active: bool,
    failed: bool,
    stage: Stage,
    /// The open batch.
    batch: Popped,
    /// What the worker has in hand, perhaps for an earlier activation.
    running: Option<Job>,
    tickets: u64,
    file: FileSync,
    latch: Latch,
    stamp: Option<FileStamp>,
    counters: Counters,
    #[cfg(any(loom, feature = "fault-injection"))]
    pub(crate) mutation: Option<Mutation>,
}

impl Coordinator {
    pub(crate) fn new(sync: SyncMode, policy: SyncErrorPolicy) -> Self {
        Coordinator {
            sync,
            phase: Phase::Running,
            drain: DrainStatus::None,
            generation: Generation(0),
            active: false,
            failed: false,
            stage: Stage::Idle,
            batch: Popped::default(),
            running: None,
            tickets: 0,
            file: FileSync::None,
            latch: Latch::new(policy, None, false),
            stamp: None,
            counters: Counters::default(),
            #[cfg(any(loom, feature = "fault-injection"))]
            mutation: None,
        }
    }

    /// A coordinator as `state` has it: quiesced, with nothing in flight.
    pub(crate) fn restored(sync: SyncMode, policy: SyncErrorPolicy, state: &EngineState) -> Self {
        let mut coordinator = Self::new(sync, policy);
        coordinator.phase = Phase::Quiesced;
        coordinator.drain = DrainStatus::Drained;
        coordinator.failed = state.needs_reset;
        coordinator.latch = Latch::new(policy, state.latch.clone(), state.error_owed);
        coordinator.counters = Counters {
            in_flight: 0,
            ..state.counters
        };
        coordinator
    }

    // The guest's side: activation and reset.

    pub(crate) fn activate(&mut self) -> (Result<Generation, Error>, Effects) {
        if self.active || self.is_leased() {
            return (Err(Error::AlreadyActive), Effects::default());
        }
        self.generation = Generation(self.generation.0.wrapping_add(1));
        self.active = true;
        self.failed = false;
        let effects = Effects {
            device: true,
            events: vec![Event::Activated],
            ..Default::default()
        };
        (Ok(self.generation), effects)
    }

    /// Ends the activation. While [`Self::holds_lease`], the device thread is
    /// still at the guest's memory: a caller on another thread waits for that.
    pub(crate) fn reset(&mut self, now: Instant) -> Effects {
        self.active = false;
        self.failed = false;
        match self.stage {
            Stage::Popping | Stage::Pushing { .. } => Effects::default(),
            // A sync that runs goes on; its result belongs to nobody.
            Stage::Idle | Stage::Syncing(_) | Stage::Synced { .. } => self.close_batch(now),
        }
    }

    /// The activation's queue is gone, and with it any lease of its thread.
    pub(crate) fn queue_dropped(&mut self, generation: Generation, now: Instant) -> Effects {
        if self.generation != generation {
            return Effects::default();
        }
        self.active = false;
        self.failed = false;
        self.close_batch(now)
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// True while the device thread is at this activation's memory.
    pub(crate) fn holds_lease(&self, generation: Generation) -> bool {
        self.generation == generation && self.is_leased()
    }

    fn is_leased(&self) -> bool {
        matches!(self.stage, Stage::Popping | Stage::Pushing { .. })
    }

    fn is_current(&self, generation: Generation) -> bool {
        self.active && self.generation == generation
    }

    // The device thread's side: a batch from the ring and back.

    /// True if the ring may be popped now; [`Self::popped`] must follow.
    pub(crate) fn start_pop(&mut self, generation: Generation) -> bool {
        if !self.is_current(generation) || self.failed || !matches!(self.phase, Phase::Running) {
            return false;
        }
        if mutated!(self, PopWhileSyncRuns) && matches!(self.stage, Stage::Syncing(_)) {
            return true;
        }
        if self.stage != Stage::Idle || self.running.is_some() {
            return false;
        }
        self.stage = Stage::Popping;
        true
    }

    pub(crate) fn popped(&mut self, popped: Popped, now: Instant) -> (Step, Effects) {
        let mut events = Vec::new();
        let requests = u64::from(popped.requests);
        let flushes = u64::from(popped.flushes);
        self.counters.popped(requests);
        self.counters.malformed = self
            .counters
            .malformed
            .wrapping_add(requests.saturating_sub(flushes));
        if mutated!(self, PopWhileSyncRuns) && self.stage != Stage::Popping {
            self.batch.requests += popped.requests;
            self.batch.flushes += popped.flushes;
            return (Step::Wait, Effects::default());
        }
        self.batch = popped;
        if !self.active {
            return (Step::Forget, self.close_batch(now));
        }
        if let Some(reason) = popped.ring_fault {
            self.fail(reason, &mut events);
        }
        if popped.requests == 0 {
            let mut effects = self.close_batch(now);
            events.append(&mut effects.events);
            return (Step::Idle, Effects { events, ..effects });
        }
        let needs_sync = popped.flushes > 0 && self.sync == SyncMode::File;
        let flushed = !needs_sync || !self.latch.take_failure();
        if needs_sync && flushed {
            let ticket = self.ticket();
            self.stage = Stage::Syncing(ticket);
            let effects = Effects {
                worker: true,
                events,
                ..Default::default()
            };
            return (Step::Wait, effects);
        }
        self.stage = Stage::Pushing { flushed };
        let effects = Effects {
            events,
            ..Default::default()
        };
        (Step::Push { flushed }, effects)
    }

    /// The result of the batch's sync, if there is one to push;
    /// [`Self::pushed`] must follow.
    pub(crate) fn start_push(&mut self, generation: Generation) -> Option<bool> {
        match self.stage {
            Stage::Synced { flushed } if self.is_current(generation) => {
                self.stage = Stage::Pushing { flushed };
                if self.batch.flushes > 1 {
                    let shared = u64::from(self.batch.flushes - 1);
                    self.counters.coalesced = self.counters.coalesced.wrapping_add(shared);
                }
                Some(flushed)
            }
            _ => None,
        }
    }

    /// The batch is in the used ring and the guest was interrupted, unless
    /// there was something wrong with the ring.
    pub(crate) fn pushed(&mut self, ring_fault: Option<&'static str>, now: Instant) -> Effects {
        let mut events = Vec::new();
        if let Stage::Pushing { flushed } = self.stage {
            let flushes = u64::from(self.batch.flushes);
            self.counters.flushes = self.counters.flushes.wrapping_add(flushes);
            if !flushed {
                self.counters.errors = self.counters.errors.wrapping_add(flushes);
            }
        }
        if let Some(reason) = ring_fault {
            self.fail(reason, &mut events);
        }
        let mut effects = self.close_batch(now);
        events.append(&mut effects.events);
        Effects { events, ..effects }
    }

    fn fail(&mut self, reason: &'static str, events: &mut Vec<Event>) {
        if !self.failed {
            self.failed = true;
            events.push(Event::NeedsReset {
                reason: reason.to_owned(),
            });
        }
    }

    /// The open batch is answered or forgotten. A drain ends here.
    fn close_batch(&mut self, now: Instant) -> Effects {
        let requests = u64::from(mem::take(&mut self.batch).requests);
        self.counters.in_flight = self.counters.in_flight.saturating_sub(requests);
        let was_leased = self.is_leased();
        match mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Synced { flushed: false } => self.latch.owe(),
            // Nobody looks at that ring any more.
            Stage::Pushing { flushed: false } if !self.active || self.failed => self.latch.owe(),
            _ => {}
        }
        let mut effects = self.quiesce(now);
        // A reset may wait for the lease's end.
        effects.management |= was_leased && !self.active;
        effects
    }

    fn quiesce(&mut self, now: Instant) -> Effects {
        let Phase::Draining { since, .. } = self.phase else {
            return Effects::default();
        };
        let took = now.saturating_duration_since(since);
        self.phase = Phase::Quiesced;
        self.drain = DrainStatus::Drained;
        self.counters.drained(took);
        Effects {
            management: true,
            events: vec![Event::DrainDone { took }],
            ..Default::default()
        }
    }

    // The worker's side.

    fn ticket(&mut self) -> Ticket {
        self.tickets = self.tickets.wrapping_add(1);
        Ticket(self.tickets)
    }

    /// The worker's next order, if there is one. It is in hand until
    /// [`Self::job_done`].
    pub(crate) fn next_job(&mut self) -> Option<Job> {
        if self.running.is_some() {
            return None;
        }
        let job = match (self.stage, self.file.wanted()) {
            (_, Some(ticket)) => {
                self.file.started();
                let sync = self.sync == SyncMode::File;
                let kind = JobKind::File { sync };
                Job { ticket, kind }
            }
            (Stage::Syncing(ticket), None) => Job {
                ticket,
                kind: JobKind::Flush,
            },
            _ => return None,
        };
        self.running = Some(job);
        Some(job)
    }

    /// The worker has carried its order out.
    pub(crate) fn job_done(
        &mut self,
        job: Job,
        report: Report,
        took: Duration,
        now: Instant,
    ) -> Effects {
        self.running = None;
        let mut effects = Effects {
            worker: self.file.wanted().is_some(),
            // Also for a batch that was reset away: the present one may go on.
            device: !mutated!(self, LostCompletionEvent),
            ..Default::default()
        };
        if job.kind != (JobKind::File { sync: false }) {
            self.counters.host_sync(took);
        }
        match report {
            Report::Flush(result) => {
                if let Err(cause) = &result {
                    self.sync_failed(cause, &mut effects.events);
                }
                let owner = self.stage == Stage::Syncing(job.ticket);
                if result.is_err() && !owner {
                    self.latch.owe();
                }
                if owner {
                    let flushed = result.is_ok();
                    self.stage = Stage::Synced { flushed };
                    if mutated!(self, ParkBeforePush) {
                        let early = self.quiesce(now);
                        effects.management |= early.management;
                    }
                }
            }
            Report::File(outcome) => {
                if let Err(error) = &outcome.sync {
                    self.sync_failed(&LatchCause::from(error), &mut effects.events);
                    self.latch.owe();
                }
                if self.file.done(job.ticket, outcome) {
                    effects.management = true;
                }
            }
        }
        effects
    }

    fn sync_failed(&mut self, cause: &LatchCause, events: &mut Vec<Event>) {
        let LatchCause { errno, error } = cause.clone();
        events.push(Event::FlushFailed { errno, error });
        events.append(&mut self.set_latch(cause).events);
    }

    // The management's side.

    pub(crate) fn begin_drain(&mut self, now: Instant, deadline: Instant) -> Effects {
        match &mut self.phase {
            Phase::Quiesced => {
                return Effects {
                    management: true,
                    ..Default::default()
                };
            }
            Phase::Draining { deadline: old, .. } => {
                *old = deadline;
                return Effects::default();
            }
            Phase::Running => {}
        }
        self.phase = Phase::Draining {
            since: now,
            deadline,
        };
        self.drain = DrainStatus::Pending;
        let mut effects = Effects::default();
        effects.events.push(Event::DrainStarted);
        if self.stage == Stage::Idle {
            let done = self.quiesce(now);
            effects.management = done.management;
            effects.events.extend(done.events);
        }
        effects
    }

    /// How the drain stands, and until when it may be waited for.
    pub(crate) fn poll_drain(&mut self, now: Instant) -> (DrainStatus, Option<Instant>, Effects) {
        let mut effects = Effects::default();
        let mut until = None;
        if let Phase::Draining { since, deadline } = self.phase {
            if now < deadline {
                until = Some(deadline);
            } else {
                let took = now.saturating_duration_since(since);
                effects = self.go_on(DrainStatus::TimedOut);
                effects.events.push(Event::DrainTimedOut { took });
            }
        }
        (self.drain, until, effects)
    }

    pub(crate) fn cancel_drain(&mut self) -> Effects {
        match self.phase {
            Phase::Draining { .. } => self.go_on(DrainStatus::Cancelled),
            Phase::Running | Phase::Quiesced => Effects::default(),
        }
    }

    pub(crate) fn resume(&mut self) -> Effects {
        match self.phase {
            Phase::Running => Effects::default(),
            Phase::Draining { .. } => self.go_on(DrainStatus::Cancelled),
            Phase::Quiesced => {
                self.file.abandon();
                // The guest writes from here on.
                self.stamp = None;
                self.go_on(DrainStatus::None)
            }
        }
    }

    fn go_on(&mut self, drain: DrainStatus) -> Effects {
        self.phase = Phase::Running;
        self.drain = drain;
        Effects {
            device: true,
            management: true,
            ..Default::default()
        }
    }

    pub(crate) fn begin_file_sync(
        &mut self,
        deadline: Instant,
        allow_unsynced: bool,
    ) -> (Result<(), Error>, Effects) {
        if !matches!(self.phase, Phase::Quiesced) {
            return (Err(Error::NotQuiesced), Effects::default());
        }
        if let (Some(cause), false) = (self.latch.cause(), allow_unsynced) {
            return (Err(Error::Latched(cause.clone())), Effects::default());
        }
        let ticket = self.ticket();
        let begun = self.file.begin(ticket, deadline, allow_unsynced);
        let effects = Effects {
            worker: begun.is_ok(),
            ..Default::default()
        };
        (begun, effects)
    }

    /// The file sync's result, or until when it may be waited for.
    pub(crate) fn poll_file_sync(&mut self, now: Instant) -> (FilePoll, Option<Instant>, Effects) {
        let (result, lost) = self.file.poll(now, self.sync, self.latch.cause());
        if let Poll::Ready(Ok(stamp)) = &result {
            self.stamp = *stamp;
        }
        let effects = Effects {
            events: lost.into_iter().collect(),
            ..Default::default()
        };
        (result, self.file.deadline(), effects)
    }

    pub(crate) fn device_state(&self) -> DeviceState {
        match self.phase {
            Phase::Quiesced => DeviceState::Quiesced,
            Phase::Draining { .. } => DeviceState::Draining,
            Phase::Running if self.failed => DeviceState::Failed,
            Phase::Running => DeviceState::Running,
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters {
            latched: u64::from(self.latch.is_set()),
            needs_reset: u64::from(self.failed),
            ..self.counters
        }
    }

    pub(crate) fn latch(&self) -> Option<LatchCause> {
        self.latch.cause().cloned()
    }

    /// The file is known to have failed before there was this device.
    pub(crate) fn set_latch(&mut self, cause: &LatchCause) -> Effects {
        let mut effects = Effects::default();
        if self.latch.record(cause) {
            let LatchCause { errno, error } = cause.clone();
            effects.events.push(Event::Latched { errno, error });
        }
        effects
    }

    pub(crate) fn clear_latch(&mut self) -> Option<LatchCause> {
        self.latch.clear()
    }

    pub(crate) fn save(&self) -> EngineState {
        EngineState {
            counters: self.counters(),
            latch: self.latch(),
            error_owed: self.latch.is_owed(),
            needs_reset: self.failed,
            stamp: self.stamp,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
