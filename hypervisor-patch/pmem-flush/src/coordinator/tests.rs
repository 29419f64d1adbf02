// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

use std::io;

use super::*;

struct Bench {
    coordinator: Coordinator,
    generation: Generation,
    start: Instant,
}

impl Bench {
    fn new() -> Self {
        let mut coordinator = Coordinator::new(SyncMode::File, SyncErrorPolicy::Latch);
        let (generation, effects) = coordinator.activate();
        assert!(effects.device);
        Bench {
            coordinator,
            generation: generation.expect("first activation"),
            start: Instant::now(),
        }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    /// Pops `flushes` requests and hands their order to the worker.
    fn sync(&mut self, flushes: u32) -> Job {
        assert!(self.coordinator.start_pop(self.generation));
        let popped = Popped {
            requests: flushes,
            flushes,
            ring_fault: None,
        };
        let (step, effects) = self.coordinator.popped(popped, self.start);
        assert_eq!(step, Step::Wait);
        assert!(effects.worker);
        self.coordinator.next_job().expect("order")
    }

    fn done(&mut self, job: Job, now: Instant) -> Effects {
        let took = Duration::from_micros(7);
        self.coordinator
            .job_done(job, Report::Flush(Ok(())), took, now)
    }

    fn push(&mut self, now: Instant) -> Effects {
        assert_eq!(self.coordinator.start_push(self.generation), Some(true));
        self.coordinator.pushed(None, now)
    }
}

#[test]
fn rule_05_drain_time_and_deadline_are_those_it_was_given() {
    let mut bench = Bench::new();
    let job = bench.sync(2);
    let deadline = bench.at(30);
    let _ = bench.coordinator.begin_drain(bench.at(1), deadline);
    let (status, until, _) = bench.coordinator.poll_drain(bench.at(29));
    assert_eq!((status, until), (DrainStatus::Pending, Some(deadline)));
    let _ = bench.done(job, bench.at(29));
    // Past the deadline, but nobody has asked: pushed is drained.
    let effects = bench.push(bench.at(31));
    assert!(effects.management);
    let took = Duration::from_secs(30);
    assert_eq!(effects.events, [Event::DrainDone { took }]);
    let counters = bench.coordinator.counters();
    assert_eq!(counters.drain_time_us_sum, 30_000_000);
    assert_eq!(counters.sync_time_us_sum, 7);
    assert_eq!(
        bench.coordinator.poll_drain(bench.at(40)).0,
        DrainStatus::Drained
    );
}

#[test]
fn rule_05_a_drain_times_out_at_its_deadline_and_not_before() {
    let mut bench = Bench::new();
    let job = bench.sync(1);
    let _ = bench.coordinator.begin_drain(bench.start, bench.at(2));
    let almost = bench.at(2) - Duration::from_nanos(1);
    assert_eq!(bench.coordinator.poll_drain(almost).0, DrainStatus::Pending);
    let (status, until, effects) = bench.coordinator.poll_drain(bench.at(2));
    assert_eq!((status, until), (DrainStatus::TimedOut, None));
    let took = Duration::from_secs(2);
    assert_eq!(effects.events, [Event::DrainTimedOut { took }]);
    // The device goes on, and a second try has a deadline of its own.
    let _ = bench.coordinator.begin_drain(bench.at(3), bench.at(4));
    assert_eq!(
        bench.coordinator.poll_drain(bench.at(3)).0,
        DrainStatus::Pending
    );
    let _ = bench.done(job, bench.at(3));
    let _ = bench.push(bench.at(3));
    assert_eq!(
        bench.coordinator.poll_drain(bench.at(9)).0,
        DrainStatus::Drained
    );
    assert_eq!(bench.coordinator.counters().drains, 1);
}

#[test]
fn rule_05_a_late_drain_gets_the_new_deadline() {
    let mut bench = Bench::new();
    bench.sync(1);
    let _ = bench.coordinator.begin_drain(bench.start, bench.at(2));
    let _ = bench.coordinator.begin_drain(bench.at(1), bench.at(9));
    assert_eq!(
        bench.coordinator.poll_drain(bench.at(5)).0,
        DrainStatus::Pending
    );
}

#[test]
fn rule_05_a_drain_waits_for_a_pop_that_has_begun() {
    let mut bench = Bench::new();
    assert!(bench.coordinator.start_pop(bench.generation));
    let _ = bench.coordinator.begin_drain(bench.start, bench.at(9));
    assert_eq!(
        bench.coordinator.poll_drain(bench.at(1)).0,
        DrainStatus::Pending
    );
    let (step, effects) = bench.coordinator.popped(Popped::default(), bench.at(1));
    assert_eq!(step, Step::Idle);
    assert!(effects.management);
    assert_eq!(bench.coordinator.device_state(), DeviceState::Quiesced);
}

#[test]
fn rule_09_a_reset_waits_for_the_thread_at_guest_memory() {
    let mut bench = Bench::new();
    let generation = bench.generation;
    assert!(bench.coordinator.start_pop(generation));
    let _ = bench.coordinator.reset(bench.start);
    assert!(bench.coordinator.holds_lease(generation));
    bench.coordinator.activate().0.unwrap_err();
    let popped = Popped {
        requests: 1,
        flushes: 1,
        ring_fault: None,
    };
    let (step, effects) = bench.coordinator.popped(popped, bench.start);
    assert_eq!(step, Step::Forget);
    assert!(effects.management, "the resetting thread is not told");
    assert!(!bench.coordinator.holds_lease(generation));
    assert!(bench.coordinator.next_job().is_none());
    assert_eq!(bench.coordinator.counters().in_flight, 0);
    bench.coordinator.activate().0.unwrap();
}

#[test]
fn rule_09_an_earlier_generation_has_no_say() {
    let mut bench = Bench::new();
    let old = bench.generation;
    let job = bench.sync(1);
    let _ = bench.coordinator.reset(bench.start);
    let new = bench.coordinator.activate().0.expect("activation");
    assert!(!bench.coordinator.start_pop(old));
    // Rule 1: the new one waits for the old sync.
    assert!(!bench.coordinator.start_pop(new));
    let effects = bench.done(job, bench.start);
    assert!(effects.device, "the new activation is not told");
    assert_eq!(bench.coordinator.start_push(old), None);
    assert_eq!(bench.coordinator.start_push(new), None);
    let _ = bench.coordinator.queue_dropped(old, bench.start);
    assert!(bench.coordinator.start_pop(new));
}

#[test]
fn rule_09_an_order_that_was_not_begun_is_forgotten() {
    let mut bench = Bench::new();
    assert!(bench.coordinator.start_pop(bench.generation));
    let popped = Popped {
        requests: 1,
        flushes: 1,
        ring_fault: None,
    };
    let _ = bench.coordinator.popped(popped, bench.start);
    let _ = bench.coordinator.reset(bench.start);
    assert!(bench.coordinator.next_job().is_none());
}

#[test]
fn rule_09_a_queue_lost_in_a_panic_frees_the_device() {
    let mut bench = Bench::new();
    assert!(bench.coordinator.start_pop(bench.generation));
    let _ = bench.coordinator.reset(bench.start);
    let effects = bench
        .coordinator
        .queue_dropped(bench.generation, bench.start);
    assert!(effects.management);
    assert!(!bench.coordinator.holds_lease(bench.generation));
}

#[test]
fn rule_05_a_file_sync_given_up_by_resume_belongs_to_nobody() {
    let mut bench = Bench::new();
    let _ = bench.coordinator.begin_drain(bench.start, bench.at(1));
    let (begun, effects) = bench.coordinator.begin_file_sync(bench.at(1), false);
    assert!(begun.is_ok() && effects.worker);
    let job = bench.coordinator.next_job().expect("order");
    let (again, _) = bench.coordinator.begin_file_sync(bench.at(1), false);
    assert!(matches!(again, Err(Error::FileSyncBusy)));
    let _ = bench.coordinator.resume();
    // Its error is latched all the same (rule 4), and it holds up the ring.
    assert!(!bench.coordinator.start_pop(bench.generation));
    let outcome = FileOutcome {
        written: Ok(0),
        sync: Err(io::Error::from_raw_os_error(libc::EIO)),
        stamp: Err(io::Error::from_raw_os_error(libc::EIO)),
    };
    let effects =
        bench
            .coordinator
            .job_done(job, Report::File(outcome), Duration::ZERO, bench.start);
    assert!(effects.device);
    assert_eq!(bench.coordinator.counters().latched, 1);
    let (result, ..) = bench.coordinator.poll_file_sync(bench.start);
    assert!(matches!(result, Poll::Ready(Err(Error::NotQuiesced))));
}
