// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! Rule 6: each flush is answered once.

use super::*;

#[test]
fn rule_06_each_flush_is_answered_once_across_restore() {
    let mut device = device();
    device.file.hold();
    device.publish(0, 2);
    device.kick();
    device.file.wait_begun(1);
    device.engine.begin_drain(soon());
    device.publish(2, 3);
    device.kick();
    device.file.release();
    device.wake();
    device.engine.wait_drain().unwrap();
    // What was popped is pushed: restoring from used.idx loses nothing.
    let queue = device.queue.as_ref().unwrap().queue();
    assert_eq!(queue.next_avail(), device.driver.used_index());

    let saved = serde_json::to_string(&device.engine.save()).unwrap();
    let state: EngineState = serde_json::from_str(&saved).unwrap();
    let mut device = TestDevice::restore(config(), device, &state);
    assert_eq!(device.engine.device_state(), DeviceState::Quiesced);
    device.catch_up();
    assert_eq!(device.driver.used_index(), 2, "runs before resume");
    device.engine.resume();
    device.settle();
    assert_eq!(device.driver.take_used().len(), 5);
    assert_eq!(device.engine.counters().flushes, 5);
}

#[test]
fn rule_06_an_empty_state_is_a_valid_one() {
    let state: EngineState = serde_json::from_str("{}").unwrap();
    assert_eq!(state, EngineState::default());
    let state: EngineState = serde_json::from_str(r#"{"counters":{"flushes":7}}"#).unwrap();
    let device = TestDevice::restore(config(), device(), &state);
    assert_eq!(device.engine.counters().flushes, 7);
}

#[test]
fn rule_06_the_latch_is_carried_over() {
    let mut device = device();
    device.file.fail_next(libc::EIO);
    device.publish(0, 1);
    device.kick();
    device.settle();
    drain(&device);
    let state = device.engine.save();
    let mut device = TestDevice::restore(config(), device, &state);
    device.engine.resume();
    let head = device.publish(1, 1)[0];
    device.kick();
    assert_eq!(device.driver.status(head), STATUS_ERROR);
}
