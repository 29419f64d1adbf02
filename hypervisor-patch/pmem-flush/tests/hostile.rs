// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! Rule 7: bad input gets an answer or `DEVICE_NEEDS_RESET`; it never ends the
//! thread, never stalls the queue, and the device can be paused, snapshotted and
//! reset afterwards.
#![cfg(not(loom))]

use std::sync::Arc;
use std::time::Instant;

use pmem_flush::protocol::{CHAIN_MAX, STATUS_ERROR, STATUS_OK};
use pmem_flush::test_utils::{
    BUFFERS, Desc, GuestDriver, HeldFile, Interrupts, MEMORY_SIZE, NEXT, PATIENCE, PENDING,
    STATUS_OFFSET, TestDevice, WRITE, is_readable,
};
use pmem_flush::{Activation, DeviceState, EngineConfig, Event, FlushEngine, Identity};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const SIZE: u16 = 32;
const INDIRECT: u16 = 4;
const NOWHERE: u64 = 0x4000_0000_0000;

fn device() -> TestDevice {
    let file = tempfile::tempfile().expect("file");
    TestDevice::new(EngineConfig::new("pmem0"), file, SIZE)
}

/// The device can be paused, snapshotted, reset, and works after that.
fn works_afterwards(mut device: TestDevice) {
    let deadline = Instant::now() + PATIENCE;
    device.engine.begin_drain(deadline);
    device.engine.wait_drain().expect("pause");
    device.engine.sync_file(deadline, false).expect("snapshot");
    device.engine.resume();
    device.reactivate();
    let head = device.publish(0, 1)[0];
    device.kick();
    device.settle();
    assert_eq!(device.driver.status(head), STATUS_OK);
    assert_eq!(device.engine.counters().needs_reset, 0);
}

/// Publishes one bad chain between two good ones, and expects the bad one's
/// used length and status. All three are answered.
fn answers(build: impl FnOnce(&GuestDriver), len: u32, status: u32) {
    let mut device = device();
    let bad = device.driver.build(1, 0);
    build(&device.driver);
    let first = device.driver.flush(0);
    device.driver.publish(bad);
    let last = device.driver.flush(2);
    device.kick();
    device.settle();
    assert_eq!(
        device.driver.take_used(),
        [(0, 4), (u32::from(bad), len), (u32::from(last), 4)]
    );
    assert_eq!(device.driver.status(first), STATUS_OK);
    assert_eq!(device.driver.status(bad), status);
    assert_eq!(device.driver.status(last), STATUS_OK);
    let counters = device.engine.counters();
    assert_eq!((counters.flushes, counters.needs_reset), (2, 0));
    assert_eq!(counters.malformed, 1);
    works_afterwards(device);
}

/// The request that [`answers`] lets a test spoil.
const BAD: u16 = 2;

fn bad_buffer() -> u64 {
    GuestDriver::buffer(BAD)
}

fn bad_status() -> u64 {
    bad_buffer() + STATUS_OFFSET
}

#[test]
fn rule_07_unknown_type_gets_an_error_status() {
    for kind in [1, 2, 0xffff_ffff] {
        answers(|driver| driver.set_request(BAD, kind), 4, STATUS_ERROR);
    }
}

#[test]
fn rule_07_short_request_gets_an_error_status() {
    let desc = Desc(bad_buffer(), 3, NEXT, BAD + 1);
    answers(|driver| driver.set_desc(BAD, desc), 4, STATUS_ERROR);
}

#[test]
fn rule_07_zero_length_request_gets_an_error_status() {
    let desc = Desc(bad_buffer(), 0, NEXT, BAD + 1);
    answers(|driver| driver.set_desc(BAD, desc), 4, STATUS_ERROR);
}

#[test]
fn rule_07_unmapped_request_gets_an_error_status() {
    for address in [NOWHERE, u64::MAX - 1, MEMORY_SIZE as u64 - 2] {
        let desc = Desc(address, 4, NEXT, BAD + 1);
        answers(|driver| driver.set_desc(BAD, desc), 4, STATUS_ERROR);
    }
}

#[test]
fn rule_07_short_status_is_answered_with_length_0() {
    for len in [0, 1, 3] {
        let desc = Desc(bad_status(), len, WRITE, 0);
        answers(|driver| driver.set_desc(BAD + 1, desc), 0, PENDING);
    }
}

#[test]
fn rule_07_unmapped_status_is_answered_with_length_0() {
    for address in [NOWHERE, u64::MAX - 1, MEMORY_SIZE as u64 - 2] {
        let desc = Desc(address, 4, WRITE, 0);
        answers(|driver| driver.set_desc(BAD + 1, desc), 0, PENDING);
    }
}

#[test]
fn rule_07_writable_request_is_answered() {
    // Its four bytes pass for a status, where the error goes.
    let mut device = device();
    let head = device.driver.build(0, 0);
    let buffer = GuestDriver::buffer(head);
    device
        .driver
        .set_desc(head, Desc(buffer, 4, NEXT | WRITE, head + 1));
    device.driver.publish(head);
    device.kick();
    assert_eq!(device.driver.take_used(), [(u32::from(head), 4)]);
    assert_eq!(device.driver.status(head), PENDING);
    works_afterwards(device);
}

#[test]
fn rule_07_readable_status_is_answered_with_length_0() {
    let desc = Desc(bad_status(), 4, 0, 0);
    answers(|driver| driver.set_desc(BAD + 1, desc), 0, PENDING);
}

#[test]
fn rule_07_readable_after_writable_gets_an_error_status() {
    answers(
        |driver| {
            driver.set_desc(BAD + 1, Desc(bad_status(), 4, WRITE | NEXT, 20));
            driver.set_desc(20, Desc(bad_buffer(), 4, 0, 0));
        },
        4,
        STATUS_ERROR,
    );
}

#[test]
fn rule_07_lone_descriptor_is_answered() {
    let readable = Desc(bad_buffer(), 4, 0, 0);
    answers(|driver| driver.set_desc(BAD, readable), 0, PENDING);
    let writable = Desc(bad_status(), 4, WRITE, 0);
    answers(|driver| driver.set_desc(BAD, writable), 4, STATUS_ERROR);
}

#[test]
fn rule_07_looping_chain_gets_an_error_status() {
    // To itself, and to its head.
    let itself = Desc(bad_buffer(), 4, NEXT, BAD);
    answers(|driver| driver.set_desc(BAD, itself), 0, PENDING);
    let back = Desc(bad_status(), 4, WRITE | NEXT, BAD);
    answers(|driver| driver.set_desc(BAD + 1, back), 4, STATUS_ERROR);
}

#[test]
fn rule_07_chain_out_of_its_table_gets_an_error_status() {
    for next in [SIZE, u16::MAX] {
        let desc = Desc(bad_status(), 4, WRITE | NEXT, next);
        answers(|driver| driver.set_desc(BAD + 1, desc), 4, STATUS_ERROR);
    }
}

#[test]
fn rule_07_overlong_chain_gets_an_error_status() {
    answers(
        |driver| {
            driver.set_desc(BAD + 1, Desc(bad_status(), 4, WRITE | NEXT, 10));
            for index in 10..10 + u16::try_from(CHAIN_MAX).expect("small") {
                driver.set_desc(index, Desc(bad_status(), 0, WRITE | NEXT, index + 1));
            }
        },
        4,
        STATUS_ERROR,
    );
}

#[test]
fn rule_07_chain_of_more_than_4_gib_gets_an_error_status() {
    answers(
        |driver| {
            driver.set_desc(BAD + 1, Desc(bad_status(), 4, WRITE | NEXT, 10));
            driver.set_desc(10, Desc(BUFFERS, u32::MAX, WRITE, 0));
        },
        4,
        STATUS_ERROR,
    );
}

#[test]
fn rule_07_bad_indirect_table_is_answered() {
    for (table, len) in [(NOWHERE, 32), (BUFFERS + 0x1000, 17), (BUFFERS, 0)] {
        let desc = Desc(table, len, INDIRECT, 0);
        answers(|driver| driver.set_desc(BAD, desc), 0, PENDING);
    }
}

#[test]
fn rule_07_indirect_table_in_itself_is_answered() {
    let table = BUFFERS + 0x1000;
    answers(
        |driver| {
            driver.set_desc_at(table, 0, Desc(table, 16, INDIRECT, 0));
            driver.set_desc(BAD, Desc(table, 16, INDIRECT, 0));
        },
        0,
        PENDING,
    );
}

/// Publishes an odd chain that is a flush all the same.
fn succeeds(build: impl FnOnce(&GuestDriver)) {
    let mut device = device();
    let head = device.driver.build(1, 0);
    build(&device.driver);
    device.driver.publish(head);
    device.kick();
    device.settle();
    assert_eq!(device.driver.take_used(), [(u32::from(head), 4)]);
    assert_eq!(device.driver.status(head), STATUS_OK);
    assert_eq!(device.engine.counters().malformed, 0);
}

#[test]
fn extra_descriptors_are_ignored() {
    succeeds(|driver| {
        driver.set_desc(BAD, Desc(bad_buffer(), 4, NEXT, 10));
        driver.set_desc(10, Desc(NOWHERE, 100, NEXT, BAD + 1));
        driver.set_desc(BAD + 1, Desc(bad_status(), 4, WRITE | NEXT, 11));
        driver.set_desc(11, Desc(NOWHERE, 100, WRITE, 0));
    });
}

#[test]
fn fields_in_pieces_are_a_request() {
    succeeds(|driver| {
        let (buffer, status) = (bad_buffer(), bad_status());
        driver.set_desc(BAD, Desc(buffer, 1, NEXT, 10));
        driver.set_desc(10, Desc(buffer + 1, 0, NEXT, 11));
        driver.set_desc(11, Desc(buffer + 1, 3, NEXT, 12));
        driver.set_desc(12, Desc(status, 3, WRITE | NEXT, 13));
        driver.set_desc(13, Desc(status + 3, 9, WRITE, 0));
    });
}

#[test]
fn indirect_request_is_a_request() {
    succeeds(|driver| {
        let table = BUFFERS + 0x1000;
        driver.set_desc_at(table, 0, Desc(bad_buffer(), 4, NEXT, 1));
        driver.set_desc_at(table, 1, Desc(bad_status(), 4, WRITE, 0));
        driver.set_desc(BAD, Desc(table, 32, INDIRECT, 0));
    });
}

#[test]
fn the_same_head_twice_is_answered_twice() {
    let mut device = device();
    let head = device.driver.build(0, 0);
    device.driver.publish(head);
    device.driver.publish(head);
    device.kick();
    device.settle();
    assert_eq!(device.driver.take_used(), [(0, 4), (0, 4)]);
    works_afterwards(device);
}

/// The ring was spoiled before this kick: the device asks for its reset, once,
/// and names the reason.
fn needs_reset(mut device: TestDevice, reason: &str) {
    device.kick();
    device.kick();
    device.catch_up();
    assert_eq!(device.interrupts.needs_reset(), 1);
    assert_eq!(device.engine.device_state(), DeviceState::Failed);
    assert_eq!(device.engine.counters().needs_reset, 1);
    assert_eq!(device.engine.counters().in_flight, 0);
    let events = device.events.take_events();
    let reasons = events.iter().filter_map(|event| match event {
        Event::NeedsReset { reason } => Some(reason.as_str()),
        _ => None,
    });
    assert_eq!(reasons.collect::<Vec<_>>(), [reason]);
    // Parked: a good request is not popped.
    device.driver.flush(3);
    device.kick();
    assert_eq!(device.engine.counters().in_flight, 0);
    works_afterwards(device);
}

#[test]
fn rule_07_head_index_out_of_range_needs_reset() {
    for head in [SIZE, SIZE + 1, u16::MAX] {
        let mut device = device();
        device.driver.publish(head);
        needs_reset(device, "head index is not in the descriptor table");
    }
}

#[test]
fn rule_07_avail_index_jump_needs_reset() {
    for jump in [SIZE + 1, 0x8000, u16::MAX] {
        let mut device = device();
        device.driver.set_avail_index(jump);
        needs_reset(device, "available index is more than a queue's size ahead");
    }
}

#[test]
fn rule_07_what_was_popped_before_a_bad_head_is_answered() {
    let mut device = device();
    let head = device.driver.flush(0);
    device.driver.publish(SIZE);
    device.file.hold();
    device.kick();
    assert_eq!(device.interrupts.needs_reset(), 1);
    // A pause waits for the sync in flight, also of a failed device.
    let deadline = Instant::now() + PATIENCE;
    device.engine.begin_drain(deadline);
    device.file.release();
    device.wake();
    device.engine.wait_drain().unwrap();
    assert_eq!(device.driver.take_used(), [(u32::from(head), 4)]);
    assert_eq!(device.engine.counters().in_flight, 0);
    device.engine.resume();
    assert_eq!(device.engine.device_state(), DeviceState::Failed);
    works_afterwards(device);
}

#[test]
fn rule_07_a_failed_device_stays_failed_over_restore() {
    let mut device = device();
    device.driver.publish(SIZE);
    device.kick();
    device.engine.begin_drain(Instant::now() + PATIENCE);
    device.engine.wait_drain().unwrap();
    let state = device.engine.save();
    assert!(state.needs_reset);
    let mut device = TestDevice::restore(EngineConfig::new("pmem0"), device, &state);
    device.engine.resume();
    device.catch_up();
    // The ring was not reset: it is found inconsistent again.
    assert_eq!(device.engine.device_state(), DeviceState::Failed);
    works_afterwards(device);
}

/// Activates a queue whose rings are where `place` puts them.
fn with_rings(place: impl FnOnce(&mut Queue)) {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_SIZE)]).expect("set-up");
    let mut driver = GuestDriver::with_memory(memory.clone(), SIZE);
    driver.flush(0);
    let mut queue = driver.queue();
    place(&mut queue);
    let file = Arc::new(HeldFile::new(tempfile::tempfile().expect("set-up")));
    let engine =
        FlushEngine::new(EngineConfig::new("pmem0"), file.clone(), Arc::new(())).expect("set-up");
    let interrupts = Arc::new(Interrupts::default());
    let activation = Activation {
        memory: &memory,
        queue,
        queue_evt: EventFd::new(EFD_NONBLOCK).expect("set-up"),
        translate: Identity,
        signal: interrupts.clone(),
    };
    let mut queue = engine.activate(activation).expect("set-up");
    queue.on_queue_event();
    while interrupts.needs_reset() == 0 {
        // The used ring is touched when the sync has ended.
        assert!(is_readable(queue.wake_evt(), PATIENCE));
        queue.on_wake_event();
    }
    assert_eq!(engine.device_state(), DeviceState::Failed);
    let deadline = Instant::now() + PATIENCE;
    engine.begin_drain(deadline);
    engine.wait_drain().expect("set-up");
    engine.sync_file(deadline, false).expect("set-up");
    drop(queue);
    assert_eq!(engine.counters().in_flight, 0);
}

#[test]
fn rule_07_rings_outside_of_memory_need_reset() {
    let (low, high) = (Some(0x7000_0000), Some(0));
    with_rings(|queue| queue.set_avail_ring_address(low, high));
    with_rings(|queue| queue.set_used_ring_address(low, high));
    with_rings(|queue| queue.set_used_ring_address(Some(0xffff_fffc), Some(u32::MAX)));
    with_rings(|queue| queue.set_avail_ring_address(Some(0xffff_fffe), Some(u32::MAX)));
    with_rings(|queue| queue.set_ready(false));
}

#[test]
fn rule_07_a_busy_guest_does_not_keep_the_thread() {
    // Requests that need no sync are answered a queue's size at a time, with a
    // return to the host's loop in between.
    let mut device = device();
    let head = device.driver.build(0, 77);
    for _ in 0..SIZE {
        device.driver.publish(head);
    }
    device.kick();
    assert_eq!(device.driver.used_index(), SIZE);
    assert_eq!(device.interrupts.used(), 1);
    works_afterwards(device);
}
