// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! Rule 5: pause and the snapshot's file sync.

use super::*;

#[test]
fn rule_05_a_drain_waits_for_the_running_sync_and_pushes_it() {
    let mut device = device();
    device.file.hold();
    let head = device.publish(0, 1)[0];
    device.kick();
    device.file.wait_begun(1);
    device.engine.begin_drain(soon());
    assert_eq!(device.engine.poll_drain(), DrainStatus::Pending);
    assert_eq!(device.engine.device_state(), DeviceState::Draining);
    // Nothing is popped any more.
    device.publish(1, 2);
    device.kick();

    device.file.release();
    device.wake();
    assert_eq!(device.engine.poll_drain(), DrainStatus::Drained);
    device.engine.wait_drain().unwrap();
    assert_eq!(device.driver.take_used(), [(u32::from(head), 4)]);
    assert_eq!(device.interrupts.used(), 1);
    assert_eq!(device.engine.counters().in_flight, 0);
    assert_eq!(device.engine.device_state(), DeviceState::Quiesced);
    let events = device.events.take();
    assert_eq!(events, ["activated", "drain-started", "drain-done"]);
}

#[test]
fn rule_05_completions_are_pushed_before_the_device_counts_as_drained() {
    let mut device = device();
    device.file.hold();
    device.publish(0, 1);
    device.kick();
    device.file.wait_begun(1);
    device.engine.begin_drain(soon());
    device.file.release();
    // The sync has ended, the device thread has not pushed yet.
    assert!(is_readable(
        device.queue.as_ref().unwrap().wake_evt(),
        PATIENCE
    ));
    assert_eq!(device.engine.poll_drain(), DrainStatus::Pending);
    device.wake();
    assert_eq!(device.engine.poll_drain(), DrainStatus::Drained);
}

#[test]
fn rule_05_resume_pops_what_was_kicked_meanwhile() {
    let mut device = device();
    drain(&device);
    device.publish(0, 3);
    device.kick();
    assert_eq!(device.queue.as_ref().unwrap().queue().next_avail(), 0);
    device.engine.resume();
    device.settle();
    assert_eq!(device.driver.take_used().len(), 3);
}

#[test]
fn rule_05_a_drain_ends_at_its_deadline_and_the_device_goes_on() {
    let mut device = device();
    device.file.hold();
    device.publish(0, 1);
    device.kick();
    device.file.wait_begun(1);
    device
        .engine
        .begin_drain(Instant::now() + Duration::from_millis(20));
    let error = device.engine.wait_drain().unwrap_err();
    assert!(error.to_string().contains("drain timed out"), "{error}");
    assert_eq!(device.engine.poll_drain(), DrainStatus::TimedOut);
    assert_eq!(device.engine.device_state(), DeviceState::Running);
    assert!(device.events.take().contains(&"drain-timed-out"));

    // No answer is lost or doubled, and a second try works.
    device.publish(1, 2);
    device.kick();
    device.file.release();
    device.settle();
    assert_eq!(device.driver.take_used().len(), 3);
    drain(&device);
    assert_eq!(device.engine.counters().drains, 1);
}

#[test]
fn rule_05_all_drains_start_before_any_is_waited_for() {
    let mut slow = device();
    let mut fast = device();
    for device in [&mut slow, &mut fast] {
        device.file.hold();
        device.publish(0, 1);
        device.kick();
        device.file.wait_begun(1);
    }
    let engines = [slow.engine.clone(), fast.engine.clone()];
    within(move || {
        for engine in &engines {
            engine.begin_drain(Instant::now() + Duration::from_millis(20));
        }
        assert!(matches!(engines[0].wait_drain(), Err(Error::DrainTimedOut)));
        // One deadline for all: the second one is not given a new one.
        assert!(matches!(engines[1].wait_drain(), Err(Error::DrainTimedOut)));
    });
    for device in [&mut slow, &mut fast] {
        device.file.release();
        device.settle();
    }
}

#[test]
fn rule_05_a_drain_can_be_called_off() {
    let mut device = device();
    device.file.hold();
    device.publish(0, 1);
    device.kick();
    device.file.wait_begun(1);
    device.engine.begin_drain(soon());
    device.engine.cancel_drain();
    assert!(matches!(
        device.engine.wait_drain(),
        Err(Error::DrainCancelled)
    ));
    device.file.release();
    device.settle();
    device.publish(1, 1);
    device.kick();
    device.settle();
}

#[test]
fn rule_05_a_waiting_thread_is_told_of_the_drain() {
    let mut device = device();
    device.file.hold();
    device.publish(0, 1);
    device.kick();
    device.file.wait_begun(1);
    device.engine.begin_drain(soon());
    let engine = device.engine.clone();
    let management = engine.management_evt().try_clone().unwrap();
    let waiter = thread::spawn(move || engine.wait_drain());
    device.file.release();
    device.wake();
    waiter.join().unwrap().unwrap();
    assert!(is_readable(&management, PATIENCE));
}

#[test]
fn rule_05_a_latched_device_can_be_paused_but_not_snapshotted() {
    let mut device = device();
    device.file.fail_next(libc::EIO);
    device.publish(0, 1);
    device.kick();
    device.settle();
    drain(&device);
    let error = device.engine.sync_file(soon(), false).unwrap_err();
    assert!(error.to_string().contains("latched"), "{error}");
    assert_eq!(device.file.begun(), 1, "synced to no purpose");
    // By override.
    let stamp = device.engine.sync_file(soon(), true).unwrap();
    assert!(stamp.is_some());
    device.engine.resume();
    assert_eq!(device.engine.device_state(), DeviceState::Running);
}

#[test]
fn rule_05_the_file_sync_needs_a_parked_device() {
    let device = device();
    let error = device.engine.sync_file(soon(), false).unwrap_err();
    assert!(matches!(error, Error::NotQuiesced));
    assert_eq!(device.file.begun(), 0);
}

#[test]
fn rule_05_a_failing_file_sync_fails_the_snapshot_and_latches() {
    let device = device();
    drain(&device);
    device.file.fail_next(libc::EIO);
    let error = device.engine.sync_file(soon(), false).unwrap_err();
    assert!(matches!(error, Error::FileSync(_)), "{error}");
    assert_eq!(device.engine.counters().latched, 1);
    assert_eq!(device.engine.save().stamp, None);
}

#[test]
fn rule_05_the_file_sync_has_a_deadline_and_need_not_be_waited_for() {
    let mut device = device();
    drain(&device);
    device.file.hold();
    let deadline = Instant::now() + Duration::from_millis(20);
    let error = device.engine.sync_file(deadline, false).unwrap_err();
    assert!(error.to_string().contains("timed out"), "{error}");
    // By override the state can be had, without a stamp.
    let deadline = Instant::now() + Duration::from_millis(20);
    assert_eq!(device.engine.sync_file(deadline, true).unwrap(), None);

    // The late sync holds up the guest's next flush, and nothing else.
    device.engine.resume();
    device.publish(0, 1);
    device.kick();
    device.file.release();
    device.settle();

    drain(&device);
    let _ = device.engine.management_evt().read();
    device.engine.begin_file_sync(soon(), false).unwrap();
    let stamp = loop {
        assert!(is_readable(device.engine.management_evt(), PATIENCE));
        let _ = device.engine.management_evt().read();
        if let Poll::Ready(result) = device.engine.poll_file_sync() {
            break result.unwrap();
        }
    };
    assert_eq!(stamp, Some(FileStamp::of(device.file.file()).unwrap()));
    assert!(matches!(
        device.engine.poll_file_sync(),
        Poll::Ready(Err(Error::NoFileSync))
    ));
}

#[test]
fn rule_05_a_file_sync_behind_a_failing_flush_fails_the_snapshot() {
    let mut device = device();
    device.file.hold();
    device.file.fail_next(libc::EIO);
    device.publish(0, 1);
    device.kick();
    device.file.wait_begun(1);
    // Reset with the sync in flight, then pause and snapshot at once.
    device.reactivate();
    drain(&device);
    device.engine.begin_file_sync(soon(), false).unwrap();
    device.file.release();
    let error = device.engine.wait_file_sync().unwrap_err();
    assert!(matches!(error, Error::Latched(_)), "{error}");
}
