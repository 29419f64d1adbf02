// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! The devices of bad character lie as they should, and can still be drained.
#![cfg(not(loom))]

use std::time::{Duration, Instant};

use pmem_flush::test_utils::{PATIENCE, PENDING, TestDevice};
use pmem_flush::{DEFAULT_LATE, EngineConfig, Fault};

fn device(fault: Fault) -> TestDevice {
    let config = EngineConfig {
        fault: Some(fault),
        ..EngineConfig::new("pmem0")
    };
    TestDevice::new(config, tempfile::tempfile().expect("file"), 16)
}

/// Has one flush answered, as far as this device does.
fn flush(fault: Fault) -> (TestDevice, u16) {
    let mut device = device(fault);
    let head = device.publish(0, 1)[0];
    device.kick();
    device.wake();
    device.engine.begin_drain(Instant::now() + PATIENCE);
    device.engine.wait_drain().expect("drain");
    (device, head)
}

#[test]
fn silent_never_answers() {
    let (device, head) = flush(Fault::Silent);
    assert_eq!(device.driver.used_index(), 0);
    assert_eq!(device.driver.status(head), PENDING);
    assert_eq!(device.interrupts.used(), 0);
}

#[test]
fn late_answers_late() {
    let late = Duration::from_millis(50);
    let start = Instant::now();
    let (mut device, head) = flush(Fault::Late(late));
    assert!(start.elapsed() >= late);
    assert_eq!(device.driver.take_used(), [(u32::from(head), 4)]);
    assert_eq!(device.driver.status(head), 0);
}

#[test]
fn double_answers_twice() {
    let (mut device, _) = flush(Fault::Double);
    assert_eq!(device.driver.take_used(), [(0, 4), (0, 4)]);
}

#[test]
fn bad_cookie_names_another_descriptor() {
    let (mut device, _) = flush(Fault::BadCookie);
    assert_eq!(device.driver.take_used(), [(1, 4)]);
}

#[test]
fn len0_says_nothing_was_written() {
    let (mut device, head) = flush(Fault::Len0);
    assert_eq!(device.driver.take_used(), [(0, 0)]);
    assert_eq!(device.driver.status(head), 0);
}

#[test]
fn status_is_the_one_asked_for() {
    let (mut device, head) = flush(Fault::Status(0xffff_fff4));
    assert_eq!(device.driver.take_used(), [(0, 4)]);
    assert_eq!(device.driver.status(head), 0xffff_fff4);
}

/// Publishes one flush, a second one while the first one's sync runs, and lets the sync end.
fn flush_during_a_sync(config: EngineConfig) -> TestDevice {
    let mut device = TestDevice::new(config, tempfile::tempfile().expect("file"), 16);
    device.file.hold();
    device.publish(0, 1);
    device.kick();
    device.file.wait_begun(1);
    device.publish(1, 1);
    device.kick();
    device.file.release();
    device
}

#[test]
fn open_batch_answers_both_from_one_sync_and_a_closed_one_does_not() {
    let fault = EngineConfig {
        fault: Some(Fault::OpenBatch),
        ..EngineConfig::new("pmem0")
    };
    let mut open = flush_during_a_sync(fault);
    open.wake();
    assert_eq!(open.driver.take_used(), [(0, 4), (2, 4)]);
    assert_eq!(open.file.begun(), 1);

    let mut closed = flush_during_a_sync(EngineConfig::new("pmem0"));
    closed.wake();
    assert_eq!(closed.driver.take_used(), [(0, 4)]);
    closed.file.wait_begun(2);
}

#[test]
fn faults_have_names() {
    let good = [
        ("silent", Fault::Silent),
        ("late", Fault::Late(DEFAULT_LATE)),
        ("late=20", Fault::Late(Duration::from_millis(20))),
        ("double", Fault::Double),
        ("bad-cookie", Fault::BadCookie),
        ("len0", Fault::Len0),
        ("status=7", Fault::Status(7)),
        ("open-batch", Fault::OpenBatch),
        ("status:0xfffffff4", Fault::Status(0xffff_fff4)),
    ];
    for (text, fault) in good {
        assert_eq!(text.parse(), Ok(fault));
    }
    for text in ["", "Silent", "silent=1", "status", "status=x", "late=-1"] {
        let error = text.parse::<Fault>().unwrap_err().to_string();
        assert!(error.contains(&format!("'{text}'")), "{error}");
    }
}
