// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! The engine's rules, one test or more for each.
#![cfg(not(loom))]

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use pmem_flush::protocol::{STATUS_ERROR, STATUS_OK};
use pmem_flush::test_utils::{
    HeldFile, PATIENCE, PENDING, Recorder, TestDevice, is_readable, within,
};
use pmem_flush::{
    Activation, DeviceState, DrainStatus, EngineConfig, EngineState, Error, Event, FileLock,
    FileStamp, FlushEngine, Identity, LockError, LockKind, SyncErrorPolicy, SyncMode, preallocate,
    unallocated_bytes,
};
use virtio_queue::QueueT;
use vmm_sys_util::eventfd::EventFd;

const SIZE: u16 = 16;

fn backing() -> File {
    let file = tempfile::tempfile().expect("file");
    file.set_len(0x1_0000).expect("size");
    file
}

fn config() -> EngineConfig {
    EngineConfig::new("pmem0")
}

fn device() -> TestDevice {
    TestDevice::new(config(), backing(), SIZE)
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

fn drain(device: &TestDevice) {
    device.engine.begin_drain(soon());
    device.engine.wait_drain().expect("drained");
}

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

/// Writes a byte through a shared mapping, as a guest does.
fn write_through_mapping(file: &File, value: u8) {
    // SAFETY: a new mapping of an open file; the kernel chooses its place.
    let map = unsafe {
        libc::mmap(
            ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    assert_ne!(map, libc::MAP_FAILED);
    // SAFETY: the mapping is a page long, writable, and nobody else's.
    unsafe {
        map.cast::<u8>().write_volatile(value);
        libc::munmap(map, 4096);
    }
}

#[test]
fn rule_10_a_file_that_moved_on_is_stale() {
    let device = device();
    write_through_mapping(device.file.file(), 1);
    drain(&device);
    let stamp = device.engine.sync_file(soon(), false).unwrap().unwrap();
    assert_eq!(device.engine.save().stamp, Some(stamp));
    let file = device.file.file();
    stamp.check(&FileStamp::of(file).unwrap(), false).unwrap();

    let later = FileStamp {
        mtime_nsec: stamp.mtime_nsec ^ 1,
        ..stamp
    };
    let error = stamp.check(&later, false).unwrap_err();
    assert!(error.to_string().contains("stale"), "{error}");
    stamp.check(&later, true).unwrap();
    let shorter = FileStamp { size: 1, ..stamp };
    stamp.check(&shorter, false).unwrap_err();
}

#[test]
fn rule_10_a_guest_write_after_the_snapshot_moves_the_stamp() {
    let device = TestDevice::new(config(), disk_file(), SIZE);
    let file = device.file.file();
    write_through_mapping(file, 1);
    drain(&device);
    let stamp = device.engine.sync_file(soon(), false).unwrap().unwrap();
    device.engine.resume();
    assert_eq!(device.engine.save().stamp, None, "stamp outlives resume");
    // The filesystem's clock may tick slower than this test runs.
    let end = soon();
    let mut value = 2;
    while stamp.check(&FileStamp::of(file).unwrap(), false).is_ok() {
        assert!(Instant::now() < end, "a write left the stamp as it was");
        file.sync_all().unwrap();
        write_through_mapping(file, value);
        value = value.wrapping_add(1);
    }
}

/// A file on the disk the tests are built on: /tmp may be a tmpfs, which keeps
/// a file's time when its pages are written.
fn disk_file() -> File {
    let file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).expect("file");
    file.set_len(0x1_0000).expect("size");
    file
}

#[test]
fn rule_10_a_copy_that_keeps_its_times_fits() {
    let mut original = tempfile::NamedTempFile::new().unwrap();
    original.write_all(&[1; 4096]).unwrap();
    let stamp = FileStamp::of(original.as_file()).unwrap();
    let copy = tempfile::NamedTempFile::new().unwrap();
    fs::copy(original.path(), copy.path()).unwrap();
    let modified = original.as_file().metadata().unwrap().modified().unwrap();
    let times = FileTimes::new().set_modified(modified);
    copy.as_file().set_times(times).unwrap();
    stamp
        .check(&FileStamp::of(copy.as_file()).unwrap(), false)
        .unwrap();
}

#[test]
fn rule_10_the_file_is_locked_against_a_second_writer() {
    let path = tempfile::NamedTempFile::new().unwrap();
    let open = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).open(path.path()).unwrap()
    };
    let (first, second, third) = (open(), open(), open());
    let lock = FileLock::acquire(&first, LockKind::Exclusive).unwrap();
    for kind in [LockKind::Exclusive, LockKind::Shared] {
        let error = FileLock::acquire(&second, kind).unwrap_err();
        assert!(matches!(error, LockError::Locked));
        assert!(error.to_string().contains("locked"));
    }
    // Released though the file stays open, e.g. in a worker that hangs.
    drop(lock);
    let _second = FileLock::acquire(&second, LockKind::Shared).unwrap();
    let _third = FileLock::acquire(&third, LockKind::Shared).unwrap();
    FileLock::acquire(&first, LockKind::Exclusive).unwrap_err();
}

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
    assert_eq!(engine.id(), "pmem0");
    assert_eq!(engine.poll_drain(), DrainStatus::None);
    assert!(matches!(engine.wait_drain(), Err(Error::DrainCancelled)));
}
