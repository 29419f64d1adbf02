// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! Rule 4: the error latch.

use super::*;

#[test]
fn rule_04_a_failed_sync_fails_every_later_flush() {
    let mut device = device();
    device.file.fail_next(libc::EIO);
    let first = device.publish(0, 2);
    device.kick();
    device.settle();
    assert!(
        first
            .iter()
            .all(|head| device.driver.status(*head) == STATUS_ERROR)
    );
    let events = device.events.take_events();
    assert!(
        matches!(
            &events[1],
            Event::FlushFailed {
                errno: libc::EIO,
                ..
            }
        ),
        "{events:?}"
    );
    assert!(
        matches!(
            &events[2],
            Event::Latched {
                errno: libc::EIO,
                ..
            }
        ),
        "{events:?}"
    );

    // The storage is well again: nobody knows about the lost pages.
    let second = device.publish(2, 1);
    device.kick();
    assert_eq!(device.driver.status(second[0]), STATUS_ERROR);
    assert_eq!(device.file.begun(), 1, "a latched file is not synced");
    let counters = device.engine.counters();
    assert_eq!((counters.latched, counters.errors), (1, 3));
    assert_eq!(device.engine.latch().unwrap().errno, libc::EIO);
}

#[test]
fn rule_04_a_reset_does_not_clear_the_latch() {
    let mut device = device();
    device.file.fail_next(libc::EIO);
    device.publish(0, 1);
    device.kick();
    device.settle();
    device.reactivate();
    let head = device.publish(0, 1)[0];
    device.kick();
    assert_eq!(device.driver.status(head), STATUS_ERROR);
}

#[test]
fn rule_04_a_sync_that_fails_after_its_reset_sets_the_latch() {
    let mut device = device();
    device.file.hold();
    device.file.fail_next(libc::ENOSPC);
    device.publish(0, 1);
    device.kick();
    device.file.wait_begun(1);
    device.reactivate();
    let head = device.publish(0, 1)[0];
    device.kick();
    device.file.release();
    device.settle();
    assert_eq!(device.driver.status(head), STATUS_ERROR);
    assert_eq!(device.engine.latch().unwrap().errno, libc::ENOSPC);
    assert_eq!(device.file.begun(), 1);
}

#[test]
fn rule_04_clearing_the_latch_lets_flushes_succeed() {
    let mut device = device();
    device.file.fail_next(libc::EIO);
    device.publish(0, 1);
    device.kick();
    device.settle();
    assert_eq!(device.engine.clear_latch().unwrap().errno, libc::EIO);
    let head = device.publish(1, 1)[0];
    device.kick();
    device.settle();
    assert_eq!(device.driver.status(head), STATUS_OK);
    assert_eq!(device.engine.counters().latched, 0);
}

#[test]
fn rule_04_report_asks_the_storage_again() {
    let mut config = config();
    config.sync_error = SyncErrorPolicy::Report;
    let mut device = TestDevice::new(config, backing(), SIZE);
    device.file.fail_next(libc::EIO);
    let first = device.publish(0, 1)[0];
    device.kick();
    device.settle();
    assert_eq!(device.driver.status(first), STATUS_ERROR);
    let second = device.publish(1, 1)[0];
    device.kick();
    device.settle();
    assert_eq!(device.driver.status(second), STATUS_OK);
    assert_eq!(device.engine.latch(), None);
    assert_eq!(device.events.take(), ["activated", "flush-failed"]);
}

fn reporting() -> TestDevice {
    let mut config = config();
    config.sync_error = SyncErrorPolicy::Report;
    TestDevice::new(config, backing(), SIZE)
}

/// The kernel has reported the failure to the snapshot and will not do so again.
#[test]
fn rule_04_report_tells_the_guest_of_a_snapshots_failed_sync() {
    let device = reporting();
    drain(&device);
    device.file.fail_next(libc::EIO);
    device.engine.sync_file(soon(), false).unwrap_err();
    // A second one passes; what is owed is in the snapshot.
    device.engine.sync_file(soon(), false).unwrap();
    let state = device.engine.save();
    assert!(state.error_owed);
    let mut device = TestDevice::restore(
        EngineConfig {
            sync_error: SyncErrorPolicy::Report,
            ..config()
        },
        device,
        &state,
    );
    device.engine.resume();
    let first = device.publish(0, 1)[0];
    device.kick();
    device.settle();
    assert_eq!(device.driver.status(first), STATUS_ERROR);
    assert!(!device.engine.save().error_owed);
    let second = device.publish(1, 1)[0];
    device.kick();
    device.settle();
    assert_eq!(device.driver.status(second), STATUS_OK);
}

#[test]
fn rule_04_report_tells_the_next_driver_of_a_batch_that_was_reset_away() {
    // The sync fails after the reset, and before it.
    for late in [true, false] {
        let mut device = reporting();
        device.file.hold();
        device.file.fail_next(libc::EIO);
        device.publish(0, 1);
        device.kick();
        device.file.wait_begun(1);
        if late {
            device.reactivate();
            device.file.release();
        } else {
            device.file.release();
            let queue = device.queue.as_ref().unwrap();
            assert!(is_readable(queue.wake_evt(), PATIENCE), "no wake-up");
            device.reactivate();
        }
        let first = device.publish(0, 1)[0];
        device.kick();
        device.settle();
        assert_eq!(device.driver.status(first), STATUS_ERROR, "late: {late}");
        let second = device.publish(1, 1)[0];
        device.kick();
        device.settle();
        assert_eq!(device.driver.status(second), STATUS_OK, "late: {late}");
    }
}

#[test]
fn rule_04_a_device_in_the_place_of_a_latched_one_is_latched() {
    let mut device = device();
    let cause = LatchCause {
        errno: libc::EIO,
        error: "before the reboot".to_owned(),
    };
    device.engine.set_latch(&cause);
    let head = device.publish(0, 1)[0];
    device.kick();
    assert_eq!(device.driver.status(head), STATUS_ERROR);
    assert_eq!(device.file.begun(), 0);
    assert_eq!(device.engine.latch(), Some(cause.clone()));
    assert_eq!(device.events.take(), ["activated", "latched"]);
    // Its own cause is the first one's, and is told once.
    device.engine.set_latch(&LatchCause {
        errno: 0,
        ..cause.clone()
    });
    assert_eq!(device.engine.latch(), Some(cause.clone()));
    assert_eq!(device.events.take(), [""; 0]);

    let device = reporting();
    device.engine.set_latch(&cause);
    assert_eq!(device.engine.latch(), None);
}
