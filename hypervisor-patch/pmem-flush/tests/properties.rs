// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! Random rings and random lives. `PROPTEST_CASES` sets the number of cases for
//! each property; without it there are 110,000 in total.
#![cfg(not(loom))]

use std::cell::RefCell;
use std::env;
use std::ops::RangeInclusive;
use std::time::Instant;

use pmem_flush::test_utils::{
    BUFFERS, Desc, GuestDriver, MEMORY_SIZE, NEXT, PATIENCE, STATUS_OFFSET, TestDevice, WRITE,
};
use pmem_flush::{DeviceState, EngineConfig};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};

const SIZE: u16 = 8;

fn cases(default: u32) -> ProptestConfig {
    let cases = env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(default);
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn device() -> TestDevice {
    let file = tempfile::tempfile().expect("file");
    TestDevice::new(EngineConfig::new("pmem0"), file, SIZE)
}

thread_local! {
    /// One device for all cases: a bad ring must not spoil the next one.
    static DEVICE: RefCell<TestDevice> = RefCell::new(device());
}

fn address() -> impl Strategy<Value = u64> {
    let memory = MEMORY_SIZE as u64;
    prop_oneof![
        6 => (0..u64::from(SIZE)).prop_map(|n| BUFFERS + 16 * n),
        6 => (0..u64::from(SIZE)).prop_map(|n| BUFFERS + 16 * n + STATUS_OFFSET),
        1 => memory - 8..=memory + 8,
        1 => Just(BUFFERS + 0x1000),
        1 => any::<u64>(),
    ]
}

fn len() -> impl Strategy<Value = u32> {
    prop_oneof![6 => Just(4_u32), 2 => 0..9_u32, 2 => Just(16), 1 => any::<u32>()]
}

fn index(good: RangeInclusive<u16>) -> impl Strategy<Value = u16> {
    prop_oneof![12 => good, 1 => any::<u16>()]
}

fn desc() -> impl Strategy<Value = Desc> {
    let flags = prop_oneof![
        4 => Just(NEXT),
        4 => Just(WRITE),
        2 => Just(NEXT | WRITE),
        1 => Just(0_u16),
        1 => 0..8_u16,
    ];
    (address(), len(), flags, index(0..=SIZE - 1))
        .prop_map(|(address, len, flags, next)| Desc(address, len, flags, next))
}

#[derive(Clone, Debug)]
struct Ring {
    table: Vec<Desc>,
    kinds: Vec<u32>,
    heads: Vec<u16>,
    jump: u16,
}

fn ring() -> impl Strategy<Value = Ring> {
    let size = usize::from(SIZE);
    let kind = prop_oneof![4 => Just(0_u32), 1 => any::<u32>()];
    let jump = prop_oneof![12 => Just(0_u16), 1 => any::<u16>()];
    (
        prop::collection::vec(desc(), size),
        prop::collection::vec(kind, size),
        prop::collection::vec(index(0..=SIZE - 1), 0..=size),
        jump,
    )
        .prop_map(|(table, kinds, heads, jump)| Ring {
            table,
            kinds,
            heads,
            jump,
        })
}

fn write(driver: &mut GuestDriver, ring: &Ring) {
    for (index, (desc, kind)) in (0..SIZE).zip(ring.table.iter().zip(&ring.kinds)) {
        driver.set_request(index, *kind);
        driver.set_desc(index, *desc);
    }
    for head in &ring.heads {
        driver.publish(*head);
    }
    if ring.jump != 0 {
        driver.set_avail_index(driver.avail_index().wrapping_add(ring.jump));
    }
}

/// What is wrong with the ring itself, and how many of its heads come first.
fn good_heads(ring: &Ring) -> (bool, usize) {
    let available = (ring.heads.len() as u64 + u64::from(ring.jump)) & 0xffff;
    if available > u64::from(SIZE) {
        return (false, 0);
    }
    match ring.heads.iter().position(|head| *head >= SIZE) {
        Some(first) => (false, first),
        None => (true, ring.heads.len()),
    }
}

proptest! {
    #![proptest_config(cases(90_000))]

    /// Each head of a random ring is answered once and in order, up to the
    /// first that the ring's own rules forbid; then the device asks for its
    /// reset. Afterwards it can be paused and reset.
    #[test]
    fn rule_07_random_rings_are_answered_or_refused(ring in ring()) {
        // A jump that stays within the queue's size shows old heads: skip.
        let (whole, count) = good_heads(&ring);
        let shows_old = ring.jump != 0 && (whole || count > 0);
        DEVICE.with_borrow_mut(|device| {
            if shows_old {
                return Ok(());
            }
            device.reactivate();
            write(&mut device.driver, &ring);
            let before = device.engine.counters();
            let resets = device.interrupts.needs_reset();
            device.kick();
            while device.driver.used_index() != u16::try_from(count).expect("small") {
                device.wake();
            }
            device.catch_up();
            let used: Vec<u32> = device.driver.take_used().iter().map(|(id, _)| *id).collect();
            let heads: Vec<u32> = ring.heads[..count].iter().map(|h| u32::from(*h)).collect();
            prop_assert_eq!(used, heads);
            let after = device.engine.counters();
            let answered = after.flushes - before.flushes + after.malformed - before.malformed;
            prop_assert_eq!(answered, count as u64);
            prop_assert_eq!(after.in_flight, 0);
            prop_assert!(after.host_syncs - before.host_syncs <= 1);
            let expected = if whole { DeviceState::Running } else { DeviceState::Failed };
            prop_assert_eq!(device.engine.device_state(), expected);
            prop_assert_eq!(device.interrupts.needs_reset() - resets, u64::from(!whole));

            device.engine.begin_drain(Instant::now() + PATIENCE);
            prop_assert!(device.engine.wait_drain().is_ok());
            device.engine.resume();
            Ok(())
        })?;
    }
}

/// What happens to a device.
#[derive(Clone, Copy, Debug)]
enum Act {
    Flush(u16),
    Kick,
    Wake,
    Hold,
    Release,
    Fail,
    BeginDrain,
    Cancel,
    Resume,
    Reset,
    ClearLatch,
    FileSync,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1..=2_u16).prop_map(Act::Flush),
        4 => Just(Act::Kick),
        4 => Just(Act::Wake),
        2 => Just(Act::Hold),
        3 => Just(Act::Release),
        1 => Just(Act::Fail),
        2 => Just(Act::BeginDrain),
        1 => Just(Act::Cancel),
        2 => Just(Act::Resume),
        1 => Just(Act::Reset),
        1 => Just(Act::ClearLatch),
        1 => Just(Act::FileSync),
    ]
}

/// The acts' effect on what the guest may expect.
fn perform(device: &mut TestDevice, act: Act, next: &mut u16) {
    let room = SIZE / 2
        - (device
            .driver
            .avail_index()
            .wrapping_sub(device.driver.used_index()));
    match act {
        Act::Flush(count) => {
            let count = count.min(room);
            device.publish(*next, count);
            *next = (*next + count) % 1000;
        }
        Act::Kick => device.kick(),
        Act::Wake => device.catch_up(),
        Act::Hold => device.file.hold(),
        Act::Release => device.file.release(),
        Act::Fail => device.file.fail_next(libc::EIO),
        Act::BeginDrain => device.engine.begin_drain(Instant::now() + PATIENCE),
        Act::Cancel => device.engine.cancel_drain(),
        Act::Resume => device.engine.resume(),
        Act::Reset => {
            device.reactivate();
            *next = 0;
        }
        Act::ClearLatch => {
            device.engine.clear_latch();
        }
        Act::FileSync => {
            let _ = device
                .engine
                .begin_file_sync(Instant::now() + PATIENCE, false);
        }
    }
}

proptest! {
    #![proptest_config(cases(20_000))]

    /// Whatever happens in whatever order: at most one sync at a time, a
    /// quiesced device has nothing in flight, and once it may run every
    /// request is answered once, with the lengths the specification gives.
    #[test]
    fn rules_hold_over_random_lives(acts in prop::collection::vec(act(), 1..40)) {
        DEVICE.with_borrow_mut(|device| {
            device.engine.clear_latch();
            device.reactivate();
            let mut next = 0;
            for act in acts {
                perform(device, act, &mut next);
                let quiesced = device.engine.device_state() == DeviceState::Quiesced;
                prop_assert!(!quiesced || device.engine.counters().in_flight == 0);
                prop_assert!(device.engine.counters().in_flight <= u64::from(SIZE));
            }
            device.file.release();
            device.engine.resume();
            device.kick();
            device.settle();
            let used = device.driver.take_used();
            prop_assert_eq!(used.len(), usize::from(device.driver.avail_index()));
            prop_assert!(used.iter().all(|(_, len)| *len == 4));
            // None in lives without a flush, and the first may be one.
            prop_assert!(device.file.most_at_once() <= 1);
            prop_assert_eq!(device.interrupts.needs_reset(), 0);
            Ok(())
        })?;
    }
}
