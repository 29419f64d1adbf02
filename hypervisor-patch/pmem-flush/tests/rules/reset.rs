// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! Rule 9: reset, unplug and drop.

use super::*;

#[test]
fn rule_09_reset_with_a_hung_sync_returns_at_once() {
    within(|| {
        let mut device = device();
        device.file.hold();
        let head = device.publish(0, 1)[0];
        device.kick();
        device.file.wait_begun(1);
        device.engine.reset();
        assert_eq!(device.engine.counters().in_flight, 0);
        // The old queue is dead, the late completion is dropped.
        device.file.release();
        device.wake();
        assert_eq!(device.driver.used_index(), 0);
        assert_eq!(device.driver.status(head), PENDING);
    });
}

#[test]
fn rule_09_a_new_activation_waits_behind_a_hung_sync() {
    within(|| {
        let mut device = device();
        device.file.hold();
        device.publish(0, 1);
        device.kick();
        device.file.wait_begun(1);
        device.reactivate();
        let head = device.publish(0, 1)[0];
        device.kick();
        assert_eq!(device.engine.counters().in_flight, 0, "popped too early");
        // It can be paused meanwhile.
        drain(&device);
        device.engine.resume();
        device.file.release();
        device.settle();
        assert_eq!(device.driver.status(head), STATUS_OK);
        assert_eq!((device.file.ended(), device.file.most_at_once()), (2, 1));
        // The answer to the first activation's flush was dropped.
        assert_eq!(device.driver.take_used(), [(u32::from(head), 4)]);
    });
}

#[test]
fn rule_09_unplug_and_drop_do_not_wait_for_storage() {
    within(|| {
        let mut device = device();
        let file = device.file.clone();
        file.hold();
        device.publish(0, 1);
        device.kick();
        file.wait_begun(1);
        drop(device);
        file.release();
    });
}

#[test]
fn rule_09_a_reset_ends_a_drain() {
    let mut device = device();
    device.file.hold();
    device.publish(0, 1);
    device.kick();
    device.file.wait_begun(1);
    device.engine.begin_drain(soon());
    device.engine.reset();
    device.engine.wait_drain().unwrap();
    device.file.release();
}

#[test]
fn rule_09_a_second_activation_needs_a_reset() {
    let mut device = device();
    let spare = TestDevice::new(config(), backing(), SIZE);
    let activation = Activation {
        memory: spare.driver.memory().clone(),
        queue: spare.driver.queue(),
        queue_evt: EventFd::new(0).unwrap(),
        translate: Identity,
        signal: device.interrupts.clone(),
    };
    // A plain reference serves as address space too.
    let result = device.engine.activate(Activation {
        memory: &activation.memory,
        queue: activation.queue,
        queue_evt: activation.queue_evt,
        translate: activation.translate,
        signal: activation.signal,
    });
    assert!(matches!(result, Err(Error::AlreadyActive)));
    // The refused one has done the first no harm.
    device.publish(0, 1);
    device.kick();
    device.settle();
}
