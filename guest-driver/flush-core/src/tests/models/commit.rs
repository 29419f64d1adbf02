// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! Group commit: durability (5), each waiter ends once (3).

use std::array;

use loom::thread;

use super::check_within;
use super::world::{Bio, answer, live, serve, write_and_flush};
use crate::Error;

#[test]
fn a_flush_covers_what_was_written_before_it() {
    check_within(3, || {
        let core = live::<2>(0);
        let tasks: [_; 2] = array::from_fn(|_| {
            let core = core.clone();
            thread::spawn(move || {
                assert_eq!(write_and_flush(&core), Ok(()));
                core.platform().done();
            })
        });
        let flushes = serve(&core, 2);
        for task in tasks {
            task.join().unwrap();
        }
        assert!(flushes <= 2, "more host flushes than flushes");
        assert_eq!(core.counters().flushes, 2);
    });
}

#[test]
fn three_flushes_share_host_flushes() {
    check_within(1, || {
        let core = live::<2>(0);
        let tasks: [_; 3] = array::from_fn(|_| {
            let core = core.clone();
            thread::spawn(move || {
                assert_eq!(write_and_flush(&core), Ok(()));
                core.platform().done();
            })
        });
        let flushes = u64::try_from(serve(&core, 3)).unwrap();
        for task in tasks {
            task.join().unwrap();
        }
        let counters = core.counters();
        assert_eq!(counters.host_flushes, flushes);
        assert_eq!(counters.coalesced, 3 - flushes);
    });
}

#[test]
fn a_waiter_for_a_free_slot_is_woken() {
    check_within(3, || {
        let core = live::<1>(0);
        let tasks: [_; 2] = array::from_fn(|_| {
            let core = core.clone();
            thread::spawn(move || {
                assert_eq!(write_and_flush(&core), Ok(()));
                core.platform().done();
            })
        });
        serve(&core, 2);
        for task in tasks {
            task.join().unwrap();
        }
    });
}

#[test]
fn each_bio_ends_once() {
    check_within(3, || {
        let core = live::<2>(0);
        let other = core.clone();
        let task = thread::spawn(move || {
            assert_eq!(write_and_flush(&other), Ok(()));
            other.platform().done();
        });
        let other = core.clone();
        let submitter = thread::spawn(move || {
            let write = other.platform().write();
            other.flush_bio(Bio(1, write)).unwrap();
            other.platform().done();
        });
        serve(&core, 2);
        task.join().unwrap();
        submitter.join().unwrap();
        assert_eq!(*core.platform().ended.lock().unwrap(), [(1, Ok(()))]);
    });
}

#[test]
fn only_a_status_of_0_in_4_bytes_is_success() {
    let lies = [
        (Some(0), 0, Error::Short),
        (Some(0), 3, Error::Short),
        (None, 4, Error::Host),
        (Some(1), 4, Error::Host),
        (Some(0xffff_fff4), 4, Error::Host),
    ];
    for (status, len, error) in lies {
        check_within(4, move || {
            // One slot, so that the lie meets the memory of an earlier success.
            let core = live::<1>(0);
            let other = core.clone();
            let task = thread::spawn(move || {
                assert_eq!(write_and_flush(&other), Ok(()));
                assert_eq!(write_and_flush(&other), Err(error));
                other.platform().done();
            });
            answer(&core, core.platform().take(1).unwrap(), Some(0), 4);
            answer(&core, core.platform().take(1).unwrap(), status, len);
            task.join().unwrap();
        });
    }
}
