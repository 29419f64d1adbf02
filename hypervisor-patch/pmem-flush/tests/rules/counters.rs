// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! Rule 11: counters, events, holes.

use super::*;

#[test]
fn rule_11_counters_have_their_names() {
    let mut device = device();
    device.publish(0, 4);
    device.kick();
    device.settle();
    device.driver.set_request(0, 99);
    device.driver.publish(0);
    device.kick();
    drain(&device);
    let counters = device.engine.counters();
    let named = counters.named();
    let value = |name: &str| named.iter().find(|(n, _)| *n == name).unwrap().1;
    assert_eq!(value("flushes"), 4);
    assert_eq!(value("host_syncs"), 1);
    assert_eq!(value("coalesced"), 3);
    assert_eq!(value("errors"), 0);
    assert_eq!(value("malformed"), 1);
    assert_eq!(value("in_flight"), 0);
    assert_eq!(value("in_flight_max"), 4);
    assert_eq!(value("sync_time_us_sum"), value("sync_time_us_max"));
    assert_eq!(value("drains"), 1);
    assert_eq!(value("drain_time_us_sum"), value("drain_time_us_max"));
    assert_eq!(value("latched"), 0);
    assert_eq!(value("needs_reset"), 0);
}

#[test]
fn rule_11_sync_and_drain_times_are_counted() {
    let mut device = device();
    let before = Instant::now();
    device.file.hold();
    device.publish(0, 1);
    device.kick();
    device.file.wait_begun(1);
    let held = Instant::now();
    device.engine.begin_drain(soon());
    // Let at least a microsecond pass by the clock that counts it.
    while held.elapsed() < Duration::from_micros(10) {}
    device.file.release();
    device.wake();
    device.engine.wait_drain().unwrap();
    let elapsed = u64::try_from(before.elapsed().as_micros()).unwrap();
    let counters = device.engine.counters();
    for time in [counters.sync_time_us_max, counters.drain_time_us_max] {
        assert!((9..=elapsed).contains(&time), "{time} of {elapsed} us");
    }
}

#[test]
fn rule_11_events_have_their_names_and_causes() {
    let events = [
        (Event::Activated, "activated", vec![]),
        (
            Event::DrainTimedOut {
                took: Duration::from_millis(2500),
            },
            "drain-timed-out",
            vec![("took_ms", "2500".to_owned())],
        ),
        (
            Event::NeedsReset {
                reason: "why".to_owned(),
            },
            "needs-reset",
            vec![("reason", "why".to_owned())],
        ),
    ];
    for (event, name, properties) in events {
        assert_eq!((event.name(), event.properties()), (name, properties));
    }
}

#[test]
fn rule_11_holes_are_found_and_filled() {
    let file = disk_file();
    assert_eq!(unallocated_bytes(&file).unwrap(), 0x1_0000);
    preallocate(&file).unwrap();
    assert_eq!(unallocated_bytes(&file).unwrap(), 0);
    assert_eq!(file.metadata().unwrap().len(), 0x1_0000);
    preallocate(&tempfile::tempfile().unwrap()).unwrap();
}

#[test]
fn handles_and_engines_can_be_shared_between_threads() {
    fn shareable<T: Send + Sync + Clone>(_: &T) {}
    let backend = Arc::new(HeldFile::new(backing()));
    let events = Arc::new(Recorder::default());
    let engine = FlushEngine::new(config(), backend, events).unwrap();
    shareable(&engine);
    // A queue is made on a vCPU's thread and moves to the device thread.
    fn movable<T: Send>(_: Option<&T>) {}
    movable(None::<&TestQueue>);
    assert_eq!(engine.id(), "pmem0");
    assert_eq!(engine.poll_drain(), DrainStatus::None);
    assert!(matches!(engine.wait_drain(), Err(Error::DrainCancelled)));
}
