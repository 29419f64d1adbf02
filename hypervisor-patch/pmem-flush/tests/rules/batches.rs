// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! Rules 1, 2, 3 and 8: the way of a batch.

use super::*;

#[test]
fn rule_01_device_thread_never_waits_for_storage() {
    within(|| {
        let mut device = device();
        device.file.hold();
        device.publish(0, 2);
        device.kick();
        device.file.wait_begun(1);
        // The sync hangs; the device thread still takes kicks.
        device.publish(2, 1);
        device.kick();
        assert_eq!(device.driver.used_index(), 0);
        device.file.release();
        device.settle();
    });
}

#[test]
fn rule_01_one_host_sync_at_a_time() {
    let mut device = device();
    for round in 0..10 {
        device.publish(round, 1);
        device.kick();
        device.publish(round + 1, 4);
        device.kick();
        device.settle();
    }
    assert_eq!(device.file.most_at_once(), 1);
    assert_eq!(device.driver.take_used().len(), 50);
}

#[test]
fn rule_02_nothing_is_popped_while_a_sync_runs() {
    let mut device = device();
    device.file.hold();
    device.publish(0, 1);
    device.kick();
    device.file.wait_begun(1);
    device.publish(1, 3);
    device.kick();
    let popped = device.queue.as_ref().unwrap().queue().next_avail();
    assert_eq!(popped, 1, "popped while the sync ran");
    assert_eq!(device.engine.counters().in_flight, 1);

    device.file.release();
    device.wake();
    // The first batch is answered, the second is with a sync of its own.
    assert_eq!(device.driver.take_used(), [(0, 4)]);
    assert_eq!(device.interrupts.used(), 1);
    device.settle();
    assert_eq!(device.driver.take_used().len(), 3);
    assert_eq!(device.file.ended(), 2);
}

#[test]
fn rule_02_one_interrupt_for_a_finished_batch() {
    let mut device = device();
    device.publish(0, 8);
    device.kick();
    device.settle();
    assert_eq!(device.interrupts.used(), 1);
    assert_eq!(device.driver.take_used().len(), 8);
    let counters = device.engine.counters();
    assert_eq!(counters.host_syncs, 1);
    assert_eq!(counters.coalesced, 7);
    assert_eq!(counters.in_flight_max, 8);
}

#[test]
fn rule_02_a_batch_is_at_most_the_queue_size() {
    let mut device = device();
    let head = device.driver.build(0, 0);
    for _ in 0..SIZE {
        device.driver.publish(head);
    }
    device.kick();
    assert_eq!(device.engine.counters().in_flight_max, u64::from(SIZE));
    device.settle();
    assert_eq!(device.driver.take_used().len(), usize::from(SIZE));
}

#[test]
fn rule_03_a_private_mapping_needs_no_sync() {
    let mut config = config();
    config.sync = SyncMode::Skip;
    let mut device = TestDevice::new(config, backing(), SIZE);
    device.file.hold();
    let heads = device.publish(0, 3);
    device.kick();
    assert_eq!(device.driver.take_used().len(), 3);
    assert!(
        heads
            .iter()
            .all(|head| device.driver.status(*head) == STATUS_OK)
    );
    assert_eq!(device.file.begun(), 0);
    assert_eq!(device.engine.counters().host_syncs, 0);
    assert_eq!(device.engine.counters().coalesced, 0);
    // Nor does a snapshot; its stamp is taken all the same.
    drain(&device);
    let stamp = device.engine.sync_file(soon(), false).unwrap();
    assert_eq!(stamp, Some(FileStamp::of(device.file.file()).unwrap()));
    assert_eq!(device.file.begun(), 0);
}

#[test]
fn rule_03_each_batch_syncs_the_file() {
    let mut device = device();
    for n in 0..3 {
        device.publish(n, 1);
        device.kick();
        device.settle();
        assert_eq!(device.file.ended(), u64::from(n) + 1);
    }
}

#[test]
fn rule_08_status_and_length_are_what_the_spec_says() {
    let mut device = device();
    device.file.fail_next(libc::EIO);
    let bad = device.publish(0, 1)[0];
    device.kick();
    device.settle();
    assert_eq!(device.driver.status(bad), 0xffff_ffff);
    assert_eq!(device.driver.take_used(), [(u32::from(bad), 4)]);
    device.engine.clear_latch();
    let good = device.publish(1, 1)[0];
    device.kick();
    device.settle();
    assert_eq!(device.driver.status(good), 0);
    assert_eq!(device.driver.take_used(), [(u32::from(good), 4)]);
}
