// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! Failure: slots stay the host's (1), cookies (2), nobody sleeps once Broken (4).

use loom::sync::Arc;
use loom::thread;

use super::world::{Bio, Core, answer, live, write_and_flush};
use super::{check_all, check_within};
use crate::{Cause, Device, Error};

/// Starts a task that flushes once and must fail, or succeed if that is allowed.
fn task<const N: usize>(
    core: &Arc<Core<N>>,
    allowed: &'static [Result<(), Error>],
) -> thread::JoinHandle<Result<(), Error>> {
    let core = core.clone();
    thread::spawn(move || {
        let result = write_and_flush(&core);
        assert!(allowed.contains(&result), "flush ended with {result:?}");
        core.platform().done();
        result
    })
}

#[test]
fn an_abandoned_request_stays_the_hosts() {
    check_all(|| {
        let core = live::<1>(0);
        let flush = task(&core, &[Err(Error::Broken)]);
        let taken = core.platform().take(1).unwrap();
        let other = core.clone();
        let breaker = thread::spawn(move || other.mark_broken(Cause::NeedsReset));
        flush.join().unwrap().unwrap_err();
        answer(&core, taken, Some(0), 4);
        breaker.join().unwrap();
        assert_eq!(core.device(), Device::Broken);
        assert!(core.platform().ring().held.is_empty());
    });
}

#[test]
fn nobody_sleeps_on_a_broken_device() {
    check_within(3, || {
        let core = live::<2>(0);
        let flushes = [
            task(&core, &[Err(Error::Broken)]),
            task(&core, &[Err(Error::Broken)]),
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
        core.mark_broken(Cause::NeedsReset);
        for flush in flushes {
            flush.join().unwrap().unwrap_err();
        }
        submitter.join().unwrap();
        let ended = core.platform().ended.lock().unwrap();
        assert_eq!(*ended, [(1, Err(Error::Broken))]);
    });
}

#[test]
fn nobody_waits_for_a_slot_of_a_broken_device() {
    check_within(4, || {
        let core = live::<1>(0);
        let flushes = [
            task(&core, &[Err(Error::Broken)]),
            task(&core, &[Err(Error::Broken)]),
        ];
        core.mark_broken(Cause::NeedsReset);
        for flush in flushes {
            flush.join().unwrap().unwrap_err();
        }
    });
}

#[test]
fn a_failed_kick_fails_everyone() {
    check_all(|| {
        let core = live::<2>(0);
        core.platform().ring().kick_fails = true;
        let flushes = [
            task(&core, &[Err(Error::Broken)]),
            task(&core, &[Err(Error::Broken)]),
        ];
        for flush in flushes {
            flush.join().unwrap().unwrap_err();
        }
        let broke = Cause::KickFailed;
        assert_eq!(*core.platform().events.lock().unwrap(), [broke]);
    });
}

#[test]
fn a_queue_found_broken_fails_everyone() {
    check_within(4, || {
        let core = live::<2>(0);
        let flushes = [
            task(&core, &[Err(Error::Broken)]),
            task(&core, &[Err(Error::Broken)]),
        ];
        let _unanswered = core.platform().take(2).unwrap();
        core.platform().ring().broken = true;
        core.used();
        for flush in flushes {
            flush.join().unwrap().unwrap_err();
        }
    });
}

#[test]
fn a_device_reset_behind_the_drivers_back_fails_everyone() {
    check_all(|| {
        let core = live::<2>(0);
        let flush = task(&core, &[Err(Error::Broken)]);
        let _unanswered = core.platform().take(1).unwrap();
        core.platform().ring().down = true;
        assert!(!core.watchdog(), "the watchdog has not seen it");
        flush.join().unwrap().unwrap_err();
        let broke = Cause::Down;
        assert_eq!(*core.platform().events.lock().unwrap(), [broke]);
    });
}

#[test]
fn an_unknown_cookie_breaks_the_device() {
    check_all(|| {
        let core = live::<2>(0);
        let flush = task(&core, &[Err(Error::Broken)]);
        let taken = core.platform().take(1).unwrap();
        core.platform().give(taken.0.cookie + 1, 4);
        core.used();
        assert_eq!(core.device(), Device::Broken);
        flush.join().unwrap().unwrap_err();
        answer(&core, taken, Some(0), 4);
    });
}

#[test]
fn a_repeated_cookie_breaks_the_device() {
    check_within(3, || {
        let core = live::<2>(0);
        let either = &[Ok(()), Err(Error::Broken)];
        let flushes = [task(&core, either), task(&core, either)];
        let taken = core.platform().take(2).unwrap();
        answer(&core, taken, Some(0), 4);
        core.platform().give(taken.0.cookie, 4);
        core.used();
        assert_eq!(core.device(), Device::Broken, "a cookie counted twice");
        let results = flushes.map(|flush| flush.join().unwrap());
        assert!(results.contains(&Ok(())), "the first answer was lost");
    });
}
