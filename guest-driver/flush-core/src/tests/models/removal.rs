// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! Removal (8), the watchdog (8), and what is left when the core is freed (1, 4).

use loom::sync::Arc;
use loom::thread;

use super::world::{Bio, Core, live, serve, sync, write_and_flush};
use super::{check_all, check_within};
use crate::{Device, Error};

/// From reset to the memory being freed.
fn reset_and_free<const N: usize>(core: &Core<N>) {
    core.platform().reset();
    core.after_reset().unwrap();
    assert!(core.platform().ring().held.is_empty());
    core.wait_idle();
    core.platform().free();
}

/// Starts a task that flushes once; the result may be any of these.
fn task<const N: usize>(
    core: &Arc<Core<N>>,
    allowed: &'static [Result<(), Error>],
) -> thread::JoinHandle<()> {
    let core = core.clone();
    thread::spawn(move || {
        let result = write_and_flush(&core);
        assert!(allowed.contains(&result), "flush ended with {result:?}");
    })
}

/// A watchdog: runs when armed, moving the clock by 10 each time.
fn watchdog<const N: usize>(core: &Core<N>) {
    core.platform().until(|ring| ring.armed);
    let mut time = 0;
    loop {
        time += 10;
        core.platform().pass_to(time);
        if !core.watchdog() {
            return;
        }
    }
}

/// Waits until the core has counted a flush. One that comes after the core is freed
/// would be the fault of the region, which lets nobody in by then.
fn until_entered<const N: usize>(core: &Core<N>) {
    while core.counters().flushes == 0 {
        thread::yield_now();
    }
}

#[test]
fn the_core_is_freed_when_its_last_sleeper_has_left() {
    check_all(|| {
        let core = live::<2>(0);
        let flush = task(&core, &[Err(Error::Gone)]);
        until_entered(&core);
        core.finish_remove(0, 1);
        reset_and_free(&core);
        flush.join().unwrap();
    });
}

#[test]
fn the_core_is_freed_when_its_last_bio_has_ended() {
    check_all(|| {
        let core = live::<2>(0);
        core.platform().ring().kick_fails = true;
        let other = core.clone();
        let submitter = thread::spawn(move || other.flush_bio(Bio(1, 0)).unwrap());
        until_entered(&core);
        core.finish_remove(0, 1);
        reset_and_free(&core);
        submitter.join().unwrap();
        let ended = core.platform().ended.lock().unwrap();
        assert_eq!(*ended, [(1, Err(Error::Broken))]);
    });
}

#[test]
fn nobody_sleeps_on_a_device_that_is_gone() {
    check_within(2, || {
        let core = live::<2>(0);
        let flushes = [
            task(&core, &[Err(Error::Gone)]),
            task(&core, &[Err(Error::Gone)]),
        ];
        let other = core.clone();
        let submitter = thread::spawn(move || {
            if let Err((error, bio)) = other.flush_bio(Bio(1, 0)) {
                other
                    .platform()
                    .ended
                    .lock()
                    .unwrap()
                    .push((bio.0, Err(error)));
            }
        });
        core.finish_remove(0, 1);
        core.platform().reset();
        core.after_reset().unwrap();
        core.wait_idle();
        for flush in flushes {
            flush.join().unwrap();
        }
        submitter.join().unwrap();
        let ended = core.platform().ended.lock().unwrap();
        assert_eq!(*ended, [(1, Err(Error::Gone))]);
    });
}

#[test]
fn the_last_flush_before_removal_succeeds() {
    check_all(|| {
        let core = live::<2>(0);
        let other = core.clone();
        let remover = thread::spawn(move || {
            other.begin_remove(100);
            // The region's last flush.
            assert_eq!(write_and_flush(&other), Ok(()), "the last flush was lost");
            other.finish_remove(100, 1);
            assert_eq!(other.flush(), Err(Error::Gone));
            other.platform().done();
        });
        serve(&core, 1);
        remover.join().unwrap();
        assert!(core.platform().ring().held.is_empty());
    });
}

#[test]
fn a_pulled_device_is_broken_before_anyone_waits_for_it() {
    check_all(|| {
        let core = live::<2>(0);
        let flush = task(&core, &[Err(Error::Broken)]);
        let _unanswered = core.platform().take(1).unwrap();
        core.platform().ring().broken = true;
        core.begin_remove(100);
        assert_eq!(core.device(), Device::Broken, "a bad queue was not seen");
        flush.join().unwrap();
        assert_eq!(core.flush(), Err(Error::Broken));
        core.finish_remove(100, 1);
        reset_and_free(&core);
    });
}

#[test]
fn a_device_that_nobody_thaws_is_broken_by_its_removal() {
    check_all(|| {
        let core = live::<2>(0);
        core.freeze(1, 1).unwrap();
        core.platform().reset();
        let flush = task(&core, &[Err(Error::Broken)]);
        core.begin_remove(10);
        // The region's last flush.
        assert_eq!(core.flush(), Err(Error::Broken));
        flush.join().unwrap();
        core.finish_remove(10, 1);
        reset_and_free(&core);
    });
}

#[test]
fn the_last_flush_before_removal_is_bounded() {
    check_all(|| {
        let core = live::<2>(0);
        let other = core.clone();
        let remover = thread::spawn(move || {
            other.begin_remove(10);
            assert_eq!(write_and_flush(&other), Err(Error::TimedOut));
            other.finish_remove(10, 1);
            assert_eq!(other.device(), Device::Gone);
        });
        watchdog(&core);
        remover.join().unwrap();
    });
}

#[test]
fn a_removal_is_bound_from_its_begin() {
    check_all(|| {
        let core = live::<2>(0);
        let flush = task(&core, &[Err(Error::TimedOut)]);
        let _unanswered = core.platform().take(1).unwrap();
        core.platform().pass_to(50);
        core.begin_remove(10);
        core.platform().pass_to(59);
        assert!(core.watchdog(), "broken before its time");
        core.platform().pass_to(60);
        assert!(!core.watchdog(), "still waiting after its time");
        flush.join().unwrap();
        core.finish_remove(10, 1);
        reset_and_free(&core);
    });
}

#[test]
fn the_watchdog_finds_an_answer_whose_interrupt_was_lost() {
    check_all(|| {
        let core = live::<2>(0);
        let other = core.clone();
        let flush = thread::spawn(move || assert_eq!(write_and_flush(&other), Ok(())));
        let taken = core.platform().take(1).unwrap();
        sync(&core, taken, Some(0), 4);
        watchdog(&core);
        flush.join().unwrap();
        assert_eq!(core.counters().rescued, 1, "nobody counted the rescue");
    });
}

#[test]
fn a_watchdog_runs_while_something_is_published() {
    check_within(4, || {
        let core = live::<2>(20);
        let flushes = [
            task(&core, &[Err(Error::TimedOut), Err(Error::Broken)]),
            task(&core, &[Err(Error::TimedOut), Err(Error::Broken)]),
        ];
        watchdog(&core);
        for flush in flushes {
            flush.join().unwrap();
        }
        assert_eq!(core.counters().timeouts, 1);
    });
}
