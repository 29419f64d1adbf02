// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! Freeze and thaw (7), no use of the ring outside Live (6).

use std::array;

use loom::sync::Arc;
use loom::thread;

use super::check_within;
use super::world::{Bio, Core, answer, frozen, live, serve, write_and_flush};
use crate::{Cause, Device, Error};

/// Starts a task whose flush must succeed.
fn task<const N: usize>(core: &Arc<Core<N>>) -> thread::JoinHandle<()> {
    let core = core.clone();
    thread::spawn(move || {
        assert_eq!(write_and_flush(&core), Ok(()), "an error across suspend");
        core.platform().done();
    })
}

#[test]
fn flushes_before_driver_ok_wait_for_it() {
    check_within(4, || {
        let core = frozen::<2>(0);
        core.platform().reset();
        let flush = task(&core);
        let other = core.clone();
        let starter = thread::spawn(move || {
            other.platform().start();
            other.thaw().unwrap();
        });
        serve(&core, 1);
        flush.join().unwrap();
        starter.join().unwrap();
    });
}

/// Suspends and resumes while tasks flush.
fn suspend_under<const TASKS: usize>() {
    let core = live::<2>(0);
    let flushes: [_; TASKS] = array::from_fn(|_| task(&core));
    let other = core.clone();
    let suspend = thread::spawn(move || {
        other.freeze(1, 1).unwrap();
        let held = other.platform().ring().held.len();
        assert_eq!(held, 0, "frozen with a request in the ring");
        other.platform().reset();
        other.platform().start();
        other.thaw().unwrap();
        other.platform().done();
    });
    serve(&core, TASKS + 1);
    for flush in flushes {
        flush.join().unwrap();
    }
    suspend.join().unwrap();
}

#[test]
fn a_suspend_costs_no_flush() {
    check_within(3, suspend_under::<1>);
}

#[test]
fn a_suspend_costs_none_of_two_flushes() {
    check_within(1, suspend_under::<2>);
}

#[test]
fn a_bio_parked_by_a_suspend_goes_out_after_it() {
    check_within(3, || {
        let core = live::<2>(0);
        let other = core.clone();
        let submitter = thread::spawn(move || {
            let write = other.platform().write();
            other.flush_bio(Bio(1, write)).unwrap();
            other.platform().done();
        });
        let other = core.clone();
        let suspend = thread::spawn(move || {
            other.freeze(1, 1).unwrap();
            other.platform().reset();
            other.platform().start();
            other.thaw().unwrap();
            other.platform().done();
        });
        serve(&core, 2);
        submitter.join().unwrap();
        suspend.join().unwrap();
        assert_eq!(*core.platform().ended.lock().unwrap(), [(1, Ok(()))]);
    });
}

#[test]
fn a_freeze_that_times_out_lets_everything_go_on() {
    check_within(2, || {
        let core = live::<2>(0);
        let flushes = [task(&core), task(&core)];
        let taken = core.platform().take(2).unwrap();
        let other = core.clone();
        let suspend = thread::spawn(move || {
            assert_eq!(other.freeze(5, 10), Err(Error::Busy));
            assert_eq!(other.device(), Device::Live, "Busy, but not Live");
            other.platform().done();
        });
        core.platform().tick(1);
        suspend.join().unwrap();
        answer(&core, taken, Some(0), 4);
        serve(&core, 3);
        for flush in flushes {
            flush.join().unwrap();
        }
        let events = core.platform().events.lock().unwrap();
        assert_eq!(*events, [], "a called-off suspend breaks nothing");
    });
}

#[test]
fn a_thaw_fits_a_frozen_device_only() {
    check_within(4, || {
        let core = live::<2>(0);
        let flush = task(&core);
        let taken = core.platform().take(1).unwrap();
        let other = core.clone();
        let suspend = thread::spawn(move || {
            assert_eq!(
                other.freeze(5, 10),
                Err(Error::Busy),
                "thawed while draining"
            );
            other.platform().done();
        });
        assert_eq!(core.thaw(), Err(Error::WrongState), "thawed while draining");
        core.platform().tick(1);
        suspend.join().unwrap();
        assert_eq!(core.thaw(), Err(Error::WrongState));
        answer(&core, taken, Some(0), 4);
        flush.join().unwrap();
    });
}

/// After a resume in which nobody thawed the device.
#[test]
fn a_second_freeze_is_none() {
    check_within(4, || {
        let core = live::<2>(0);
        core.freeze(1, 1).unwrap();
        core.platform().reset();
        let flush = task(&core);
        let other = core.clone();
        let suspend = thread::spawn(move || {
            assert_eq!(other.freeze(1, 1), Ok(()), "WrongState");
            other.platform().start();
            other.thaw().unwrap();
        });
        serve(&core, 1);
        flush.join().unwrap();
        suspend.join().unwrap();
    });
}

#[test]
fn a_device_that_nobody_thaws_fails_everyone() {
    check_within(4, || {
        let core = live::<2>(0);
        core.freeze(1, 1).unwrap();
        core.platform().reset();
        let other = core.clone();
        let flush = thread::spawn(move || assert_eq!(other.flush(), Err(Error::Broken)));
        core.mark_broken(Cause::NotThawed);
        flush.join().unwrap();
        // The next suspend makes a usable device of it.
        assert_eq!(core.freeze(1, 1), Err(Error::Broken));
        core.after_reset().unwrap();
        core.platform().start();
        core.thaw().unwrap();
    });
}

#[test]
fn a_freeze_sees_needs_reset() {
    check_within(4, || {
        let core = live::<2>(0);
        let other = core.clone();
        let flush = thread::spawn(move || {
            assert_eq!(other.flush(), Err(Error::Broken));
        });
        let _unanswered = core.platform().take(1).unwrap();
        let other = core.clone();
        let suspend = thread::spawn(move || {
            assert_eq!(other.freeze(5, 1), Err(Error::Broken), "NEEDS_RESET missed");
            other.platform().done();
        });
        core.platform().ring().needs_reset = true;
        core.platform().tick(1);
        flush.join().unwrap();
        suspend.join().unwrap();
        let broke = Cause::NeedsReset;
        assert_eq!(*core.platform().events.lock().unwrap(), [broke]);
        // A reset, and the device can be used again.
        core.platform().reset();
        core.after_reset().unwrap();
        assert!(core.platform().ring().held.is_empty());
        assert_eq!(core.device(), Device::Frozen);
    });
}
