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
