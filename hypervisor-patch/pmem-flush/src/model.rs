// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! The handshake under a model checker: every interleaving of a guest, a device
//! thread, a worker and a management thread, on the code of
//! [`handshake`](crate::handshake) and [`coordinator`](crate::coordinator).
//!
//! The guest writes data, then publishes a request that covers it. The file's
//! sync makes durable what was written when it began. Claims:
//!
//! - an answer says success only if the file holds what was written before the
//!   request was published;
//! - no wake-up is lost: every request is answered, without a stalled thread
//!   (loom reports a deadlock);
//! - a drain ends, and then all that was popped has been pushed;
//! - after a reset the late completion reaches nobody.
//!
//! Each mutation of the coordinator must break a claim.
//!
//! ```text
//! CARGO_TARGET_DIR=target/loom RUSTFLAGS="--cfg loom" \
//!     cargo test -p pmem-flush --release --lib model
//! ```

use std::panic;
use std::sync::Arc;
use std::time::{Duration, Instant};

use loom::model::Builder;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::config::SyncMode;
use crate::coordinator::{Coordinator, DrainStatus, Generation, JobKind, Mutation, Popped, Report};
use crate::file_sync::FileOutcome;
use crate::handshake::{Ring, Shared};
use crate::latch::SyncErrorPolicy;
use crate::stamp::FileStamp;

const STAMP: FileStamp = FileStamp {
    size: 1,
    mtime: 2,
    mtime_nsec: 3,
};

/// What guest, file and device have in common. Requests are numbered from 1;
/// request n covers the first n writes.
struct World {
    shared: Shared,
    written: AtomicUsize,
    published: AtomicUsize,
    durable: AtomicUsize,
    popped: AtomicUsize,
    answered: AtomicUsize,
}

impl World {
    fn new(mutation: Option<Mutation>) -> Arc<Self> {
        let mut coordinator = Coordinator::new(SyncMode::File, SyncErrorPolicy::Latch);
        coordinator.mutation = mutation;
        let shared = Shared::new("model".into(), coordinator, Arc::new(()));
        Arc::new(World {
            shared: shared.expect("a model's doorbells can be made"),
            written: AtomicUsize::new(0),
            published: AtomicUsize::new(0),
            durable: AtomicUsize::new(0),
            popped: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
        })
    }

    fn activate(&self) -> Generation {
        self.shared
            .change(Coordinator::activate)
            .expect("the first activation")
    }

    /// The guest writes and asks for a flush, once.
    fn publish(&self) {
        self.written.fetch_add(1, Ordering::SeqCst);
        self.published.fetch_add(1, Ordering::SeqCst);
        self.shared.device_bell().ring();
    }

    /// The worker's loop, with a file that knows when a sync began.
    fn work(&self) {
        while let Some(job) = self.shared.next_job() {
            let began_with = self.written.load(Ordering::SeqCst);
            self.durable.store(began_with, Ordering::SeqCst);
            let report = match job.kind {
                JobKind::Flush => Report::Flush(Ok(())),
                JobKind::File { .. } => Report::File(FileOutcome {
                    written: Ok(0),
                    sync: Ok(()),
                    stamp: Ok(STAMP),
                }),
            };
            self.shared.job_done(job, report, Duration::ZERO);
        }
    }

    /// The device thread's loop until `count` requests are answered.
    fn serve(&self, generation: Generation, count: usize) {
        let mut ring = ModelRing(self);
        while self.answered.load(Ordering::SeqCst) < count {
            self.shared.device_bell().wait();
            self.shared.turn(generation, &mut ring);
        }
    }

    fn drain(&self) {
        let now = Instant::now();
        let deadline = now + Duration::from_secs(1_000_000);
        self.shared
            .change(|coordinator| ((), coordinator.begin_drain(now, deadline)));
        assert_eq!(self.shared.wait_drain(), DrainStatus::Drained);
        assert_eq!(
            self.answered.load(Ordering::SeqCst),
            self.popped.load(Ordering::SeqCst),
            "parked with a popped request unanswered"
        );
    }

    fn resume(&self) {
        self.shared.change(|coordinator| ((), coordinator.resume()));
    }
}

struct ModelRing<'a>(&'a World);

impl Ring for ModelRing<'_> {
    fn pop(&mut self) -> Popped {
        let published = self.0.published.load(Ordering::SeqCst);
        let popped = self.0.popped.swap(published, Ordering::SeqCst);
        let requests = u32::try_from(published - popped).expect("few requests");
        Popped {
            requests,
            flushes: requests,
            ring_fault: None,
        }
    }

    fn push(&mut self, flushed: bool) -> Result<(), &'static str> {
        assert!(flushed);
        let popped = self.0.popped.load(Ordering::SeqCst);
        let durable = self.0.durable.load(Ordering::SeqCst);
        assert!(
            durable >= popped,
            "request {popped} acknowledged by a sync that began before it"
        );
        self.0.answered.store(popped, Ordering::SeqCst);
        Ok(())
    }

    fn forget(&mut self) {}

    fn needs_reset(&mut self, reason: &'static str) {
        panic!("{reason}");
    }

    fn has_more(&self) -> bool {
        false
    }
}

/// Tries every interleaving with at most `preemptions` preemptions.
fn check(preemptions: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(scenario);
}

/// A guest that flushes twice, without waiting for the first answer.
fn two_flushes(mutation: Option<Mutation>) {
    let world = World::new(mutation);
    let generation = world.activate();
    let worker = {
        let world = world.clone();
        thread::spawn(move || world.work())
    };
    let guest = {
        let world = world.clone();
        thread::spawn(move || {
            world.publish();
            world.publish();
        })
    };
    world.serve(generation, 2);
    guest.join().expect("guest");
    world.shared.stop();
    worker.join().expect("worker");
}

/// Management drains and resumes while a flush is on its way.
fn drain_under_load(mutation: Option<Mutation>) {
    let world = World::new(mutation);
    let generation = world.activate();
    world.publish();
    let worker = {
        let world = world.clone();
        thread::spawn(move || world.work())
    };
    let management = {
        let world = world.clone();
        thread::spawn(move || {
            world.drain();
            world.resume();
        })
    };
    world.serve(generation, 1);
    management.join().expect("management");
    world.shared.stop();
    worker.join().expect("worker");
}

/// Management drains, syncs the file and resumes while a flush is on its way.
fn snapshot_under_load() {
    let world = World::new(None);
    let generation = world.activate();
    world.publish();
    let worker = {
        let world = world.clone();
        thread::spawn(move || world.work())
    };
    let management = {
        let world = world.clone();
        thread::spawn(move || {
            world.drain();
            let deadline = Instant::now() + Duration::from_secs(1_000_000);
            world
                .shared
                .change(|coordinator| coordinator.begin_file_sync(deadline, false))
                .expect("quiesced");
            let stamp = world.shared.wait_file_sync().expect("synced");
            assert_eq!(stamp, Some(STAMP));
            assert_eq!(world.durable.load(Ordering::SeqCst), 1);
            world.resume();
        })
    };
    world.serve(generation, 1);
    management.join().expect("management");
    world.shared.stop();
    worker.join().expect("worker");
}

/// The device is reset from another thread with a flush on its way, and set up
/// again: the late completion is nobody's, the new flush gets its own sync.
fn reset_under_load() {
    let world = World::new(None);
    let old = world.activate();
    world.publish();
    let worker = {
        let world = world.clone();
        thread::spawn(move || world.work())
    };
    let transport = {
        let world = world.clone();
        thread::spawn(move || {
            world.shared.reset();
            // The old queue's memory is not touched from here on.
            let answered = world.answered.load(Ordering::SeqCst);
            let popped = world.popped.load(Ordering::SeqCst);
            let new = world.activate();
            assert_eq!(world.answered.load(Ordering::SeqCst), answered);
            assert_eq!(world.popped.load(Ordering::SeqCst), popped);
            new
        })
    };
    let mut ring = ModelRing(&world);
    world.shared.turn(old, &mut ring);
    let new = transport.join().expect("transport");
    // The driver starts over with a ring of its own.
    world.popped.store(1, Ordering::SeqCst);
    world.answered.store(1, Ordering::SeqCst);
    world.publish();
    world.serve(new, 2);
    world.shared.stop();
    worker.join().expect("worker");
}

/// Runs a scenario that must fail, and returns how it did.
fn caught(preemptions: usize, scenario: impl Fn() + Send + Sync + 'static) -> String {
    let failed = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        check(preemptions, scenario);
    }));
    let cause = failed.expect_err("the model did not catch the mutation");
    let text = cause.downcast_ref::<String>().cloned();
    text.or_else(|| cause.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_default()
}

#[test]
fn model_two_flushes() {
    check(3, || two_flushes(None));
}

#[test]
fn model_drain_under_load() {
    check(4, || drain_under_load(None));
}

#[test]
fn model_snapshot_under_load() {
    check(3, snapshot_under_load);
}

#[test]
fn model_reset_under_load() {
    check(4, reset_under_load);
}

#[test]
fn model_catches_pop_while_a_sync_runs() {
    let cause = caught(3, || two_flushes(Some(Mutation::PopWhileSyncRuns)));
    assert!(cause.contains("acknowledged by a sync"), "{cause}");
}

#[test]
fn model_catches_park_before_completions_are_pushed() {
    let cause = caught(3, || drain_under_load(Some(Mutation::ParkBeforePush)));
    assert!(cause.contains("popped request unanswered"), "{cause}");
}

#[test]
fn model_catches_a_lost_completion_event() {
    let cause = caught(3, || two_flushes(Some(Mutation::LostCompletionEvent)));
    assert!(cause.contains("deadlock"), "{cause}");
}
