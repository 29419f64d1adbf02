// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::time::SystemTime;

use pmem_flush::protocol::REQUEST_FLUSH;
use pmem_flush::test_utils::{
    Desc, GuestDriver, HeldFile, MEMORY_SIZE, NEXT, PATIENCE, PENDING, STATUS_OFFSET, WRITE,
    is_readable, within,
};
use tempfile::TempDir;
use vm_device::UserspaceMapping;
use vm_memory::bitmap::NewBitmap;
use vm_memory::{FileOffset, GuestMemoryMmap as Memory};
use vmm_sys_util::eventfd::EFD_NONBLOCK;

use super::*;
use crate::{DEVICE_NEEDS_RESET, MmapRegion};

const QUEUE_SIZE: u16 = 16;
const FILE_SIZE: u64 = 4096;
/// Status of a flush that failed, as the guest reads it.
const FAILED: u32 = u32::MAX;

/// Counts interrupts, and wakes who waits for one.
struct Interrupt {
    used: AtomicUsize,
    config: AtomicUsize,
    event: EventFd,
}

impl VirtioInterrupt for Interrupt {
    fn trigger(&self, int_type: VirtioInterruptType) -> io::Result<()> {
        let count = match int_type {
            VirtioInterruptType::Config => &self.config,
            VirtioInterruptType::Queue(_) => &self.used,
        };
        count.fetch_add(1, Ordering::SeqCst);
        self.event.write(1)
    }

    fn set_notifier(&self, _: u32, _: Option<EventFd>, _: &dyn hypervisor::Vm) -> io::Result<()> {
        Ok(())
    }
}

/// Guest addresses are off by this much, for a device behind an IOMMU.
#[derive(Debug)]
struct Offset(u64);

impl AccessPlatform for Offset {
    fn translate_gva(&self, base: u64, _size: u64) -> io::Result<u64> {
        base.checked_sub(self.0)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
    }

    fn translate_gpa(&self, base: u64, _size: u64) -> io::Result<u64> {
        Ok(base + self.0)
    }
}

fn map<B: NewBitmap>(file: &File) -> Memory<B> {
    let file = FileOffset::new(file.try_clone().unwrap(), 0);
    Memory::from_ranges_with_files([(GuestAddress(0), MEMORY_SIZE, Some(file))]).unwrap()
}

/// The device's memory with discard_writes=on.
fn map_privately(file: &File) -> MmapRegion {
    MmapRegion::build(
        Some(FileOffset::new(file.try_clone().unwrap(), 0)),
        FILE_SIZE as usize,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_NORESERVE,
    )
    .unwrap()
}

fn create_file(path: &Path) -> File {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .unwrap();
    // Setting the same length would move the time, too.
    if file.metadata().unwrap().len() != FILE_SIZE {
        file.set_len(FILE_SIZE).unwrap();
    }
    file
}

fn state_of(snapshot: &Snapshot) -> PmemState {
    snapshot.to_state().unwrap()
}

/// A device with its guest, its file, and what the transport gives it.
struct TestDevice {
    pmem: Pmem,
    driver: GuestDriver,
    /// The memory of the guest, shared by driver and device.
    ram: File,
    file: Arc<HeldFile>,
    interrupt: Arc<Interrupt>,
    status: Arc<AtomicU8>,
    kick: EventFd,
    allow_unsynced: Arc<AtomicBool>,
    dir: TempDir,
}

impl TestDevice {
    fn new(flush: PmemFlushOptions) -> Self {
        Self::with(flush, SeccompAction::Allow)
    }

    fn with(flush: PmemFlushOptions, seccomp_action: SeccompAction) -> Self {
        let ram = tempfile::tempfile().unwrap();
        ram.set_len(MEMORY_SIZE as u64).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let driver = GuestDriver::with_memory(map(&ram), QUEUE_SIZE);
        Self::build(flush, seccomp_action, dir, ram, driver, None)
    }

    /// The device in a new process, with the guest's memory as it was.
    fn restore(self, state: PmemState) -> Self {
        let TestDevice {
            pmem,
            driver,
            ram,
            dir,
            ..
        } = self;
        let flush = pmem.flush;
        drop(pmem);
        Self::build(flush, SeccompAction::Allow, dir, ram, driver, Some(state))
    }

    fn build(
        flush: PmemFlushOptions,
        seccomp_action: SeccompAction,
        dir: TempDir,
        ram: File,
        driver: GuestDriver,
        state: Option<PmemState>,
    ) -> Self {
        let allow_unsynced = Arc::<AtomicBool>::default();
        let disk = create_file(&dir.path().join("pmem"));
        let engine_state = state.as_ref().map(|state| state.engine.clone());
        let mut pmem = Pmem::new(
            "_pmem0".to_string(),
            disk.try_clone().unwrap(),
            GuestAddress(0x1_0000_0000),
            UserspaceMapping {
                mem_slot: 0,
                addr: GuestAddress(0x1_0000_0000),
                mapping: Arc::new(map_privately(&disk)),
                mergeable: false,
            },
            true,
            flush,
            allow_unsynced.clone(),
            seccomp_action,
            EventFd::new(EFD_NONBLOCK).unwrap(),
            state,
        )
        .unwrap();

        // The same engine, on a file whose syncs can be held and failed.
        let file = Arc::new(HeldFile::new(disk));
        let config = engine_config(
            "_pmem0",
            flush,
            &pmem.disk,
            &pmem.mapping,
            &pmem.seccomp_action,
        )
        .unwrap();
        pmem.engine = match &engine_state {
            Some(state) => FlushEngine::restore(config, file.clone(), Arc::new(EventLog), state),
            None => FlushEngine::new(config, file.clone(), Arc::new(EventLog)),
        }
        .unwrap();

        TestDevice {
            pmem,
            driver,
            ram,
            file,
            interrupt: Arc::new(Interrupt {
                used: AtomicUsize::default(),
                config: AtomicUsize::default(),
                event: EventFd::new(EFD_NONBLOCK).unwrap(),
            }),
            status: Arc::default(),
            kick: EventFd::new(EFD_NONBLOCK).unwrap(),
            allow_unsynced,
            dir,
        }
    }

    fn activate(&mut self) {
        self.pmem
            .activate(ActivationContext {
                mem: GuestMemoryAtomic::new(map(&self.ram)),
                interrupt_cb: self.interrupt.clone(),
                queues: vec![(0, self.driver.queue(), self.kick.try_clone().unwrap())],
                device_status: self.status.clone(),
            })
            .unwrap();
    }

    fn active(flush: PmemFlushOptions) -> Self {
        let mut device = Self::new(flush);
        device.activate();
        device
    }

    fn kick(&self) {
        self.kick.write(1).unwrap();
    }

    /// Waits for an interrupt after which `done` holds.
    fn wait(&self, done: impl Fn() -> bool) {
        while !done() {
            assert!(
                is_readable(&self.interrupt.event, PATIENCE),
                "no interrupt came"
            );
            let _ = self.interrupt.event.read();
        }
    }

    /// Publishes what was prepared at `head`, and waits for the used length.
    fn answer_to(&mut self, head: u16) -> u32 {
        self.driver.publish(head);
        self.kick();
        self.used_len(head)
    }

    fn used_len(&mut self, head: u16) -> u32 {
        let (driver, interrupt) = (&self.driver, &self.interrupt);
        while driver.used_index() != driver.avail_index() {
            assert!(is_readable(&interrupt.event, PATIENCE), "no answer came");
            let _ = interrupt.event.read();
        }
        let (id, len) = self.driver.next_used().unwrap();
        assert_eq!(id, u32::from(head));
        len
    }

    /// A flush from beginning to end: its status.
    fn flush(&mut self, n: u16) -> u32 {
        let head = self.driver.build(n, REQUEST_FLUSH);
        assert_eq!(self.answer_to(head), 4);
        self.driver.status(head)
    }

    fn counter(&self, name: &str) -> u64 {
        self.pmem.counters().unwrap()[name].0
    }

    fn pause_error(&mut self) -> String {
        format!("{:?}", self.pmem.pause().unwrap_err())
    }

    /// Pauses on a thread of its own: a pause that hangs must not hang the test.
    /// A paused device is through with what it counts.
    fn pause(mut self) -> Self {
        within(move || {
            self.pmem.pause().unwrap();
            self
        })
    }
}

/// For waits that must fail. One that must not has the default.
const QUICK: Duration = Duration::from_millis(50);

#[test]
fn config_space_is_little_endian() {
    let device = TestDevice::new(PmemFlushOptions::default());
    let mut bytes = [0; 16];
    device.pmem.read_config(0, &mut bytes);

    assert_eq!(bytes[..8], 0x1_0000_0000u64.to_le_bytes());
    assert_eq!(bytes[8..], FILE_SIZE.to_le_bytes());
}

#[test]
fn flush_is_answered_after_a_sync_of_the_file() {
    let mut device = TestDevice::active(PmemFlushOptions::default());

    assert_eq!(device.flush(0), 0);

    assert_eq!(device.file.ended(), 1);
    let device = device.pause();
    assert_eq!(device.interrupt.used.load(Ordering::SeqCst), 1);
    assert_eq!(device.counter("flushes"), 1);
    assert_eq!(device.counter("host_syncs"), 1);
    assert_eq!(device.counter("errors"), 0);
}

#[test]
fn flushes_that_arrive_during_a_sync_share_the_next_one() {
    let mut device = TestDevice::active(PmemFlushOptions::default());

    device.file.hold();
    device.driver.flush(0);
    device.kick();
    device.file.wait_begun(1);
    for n in 1..5 {
        device.driver.flush(n);
    }
    device.kick();
    device.file.release();
    device.wait(|| device.driver.used_index() == 5);

    assert_eq!(device.file.ended(), 2);
    assert_eq!(device.pause().counter("coalesced"), 3);
}

#[test]
fn discarded_writes_need_no_sync() {
    let mut device = TestDevice::active(PmemFlushOptions {
        sync: SyncMode::Skip,
        ..Default::default()
    });

    assert_eq!(device.flush(0), 0);

    assert_eq!(device.file.begun(), 0);
}

#[test]
fn snapshot_does_not_lose_discarded_writes() {
    let device = TestDevice::active(PmemFlushOptions {
        sync: SyncMode::Skip,
        ..Default::default()
    });
    let mut device = device.pause();
    let page = device.pmem.mapping.mapping.as_ptr();

    // SAFETY: the first byte of a mapping that the device holds.
    assert_eq!(unsafe { page.read_volatile() }, 0);
    device.pmem.snapshot().unwrap();
    // KVM may take a page as if for a write, for a guest that reads.
    // SAFETY: as above.
    unsafe { page.write_volatile(0) };
    device.pmem.snapshot().unwrap();

    // SAFETY: as above.
    unsafe { page.write_volatile(1) };
    let error = format!("{:?}", device.pmem.snapshot().err().unwrap());
    assert!(error.contains("1 page"), "{error}");

    device.allow_unsynced.store(true, Ordering::SeqCst);
    let state = state_of(&device.pmem.snapshot().unwrap());

    // Each host may have a copy of its own of a file that is only read.
    let device = device.restore(state);
    let copy = create_file(&device.dir.path().join("pmem"));
    copy.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    device.pmem.check_file(false).unwrap();
    copy.set_len(2 * FILE_SIZE).unwrap();
    device.pmem.check_file(false).unwrap_err();
}

#[test]
fn malformed_requests_are_answered() {
    let mut device = TestDevice::active(PmemFlushOptions::default());
    let buffer = GuestDriver::buffer(0);
    let status = buffer + STATUS_OFFSET;

    // A type other than flush.
    let head = device.driver.build(0, 7);
    assert_eq!(device.answer_to(head), 4);
    assert_eq!(device.driver.status(head), FAILED);

    // No room for a status: one descriptor, a read-only and a short status.
    device.driver.set_request(0, REQUEST_FLUSH);
    device.driver.set_desc(0, Desc(buffer, 4, 0, 0));
    assert_eq!(device.answer_to(0), 0);
    device.driver.set_desc(0, Desc(buffer, 4, NEXT, 1));
    device.driver.set_desc(1, Desc(status, 4, 0, 0));
    assert_eq!(device.answer_to(0), 0);
    device.driver.set_desc(1, Desc(status, 3, WRITE, 0));
    assert_eq!(device.answer_to(0), 0);
    assert_eq!(device.driver.status(0), PENDING);

    // A request that is not in memory, with room for a status.
    device.driver.set_desc(0, Desc(u64::MAX - 8, 4, NEXT, 1));
    device.driver.set_desc(1, Desc(status, 4, WRITE, 0));
    assert_eq!(device.answer_to(0), 4);
    assert_eq!(device.driver.status(0), FAILED);

    assert_eq!(device.status.load(Ordering::SeqCst), 0);
    assert_eq!(device.flush(0), 0, "the device goes on");
    assert_eq!(device.pause().counter("malformed"), 5);
}

#[test]
fn inconsistent_ring_needs_reset_and_can_be_paused() {
    let beyond_table = |driver: &mut GuestDriver| driver.publish(QUEUE_SIZE);
    let jump = |driver: &mut GuestDriver| driver.set_avail_index(QUEUE_SIZE + 1);

    for break_ring in [beyond_table as fn(&mut GuestDriver), jump] {
        let mut device = TestDevice::active(PmemFlushOptions::default());
        break_ring(&mut device.driver);
        device.kick();
        device.wait(|| device.interrupt.config.load(Ordering::SeqCst) == 1);

        assert_eq!(
            device.status.load(Ordering::SeqCst),
            DEVICE_NEEDS_RESET as u8
        );
        assert_eq!(device.counter("needs_reset"), 1);

        let mut device = device.pause();
        device.pmem.snapshot().unwrap();
        device.pmem.resume().unwrap();

        device.pmem.reset();
        device.driver.reset();
        device.status.store(0, Ordering::SeqCst);
        device.activate();
        assert_eq!(device.flush(0), 0, "a reset repairs the device");
        assert_eq!(device.counter("needs_reset"), 0);
    }
}

#[test]
fn pause_gives_up_on_slow_storage_and_can_be_tried_again() {
    let mut device = TestDevice::active(PmemFlushOptions::default());
    device.file.hold();
    let head = device.driver.flush(0);
    device.kick();
    device.file.wait_begun(1);

    device.pmem.flush.drain_timeout = QUICK;
    let error = device.pause_error();
    assert!(error.contains("drain timed out"), "{error}");
    assert_eq!(device.driver.used_index(), 0);
    device.pmem.flush = PmemFlushOptions::default();

    device.file.release();
    assert_eq!(device.used_len(head), 4, "the device goes on");
    let mut device = device.pause();
    device.driver.flush(1);
    device.kick();
    assert_eq!(device.counter("drains"), 1);

    device.pmem.resume().unwrap();
    device.wait(|| device.driver.used_index() == 2);
}

#[test]
fn prepared_pause_keeps_its_deadline() {
    let mut device = TestDevice::active(PmemFlushOptions::default());
    device.file.hold();
    device.driver.flush(0);
    device.kick();
    device.file.wait_begun(1);

    device.pmem.flush.drain_timeout = QUICK;
    device.pmem.prepare_pause();
    device.pmem.flush.drain_timeout = Duration::from_secs(24 * 60 * 60);
    let mut device = within(move || {
        let error = device.pause_error();
        assert!(error.contains("drain timed out"), "{error}");
        device
    });

    // Called off, the device serves what the guest has kicked meanwhile.
    device.pmem.prepare_pause();
    device.pmem.cancel_pause();
    device.driver.flush(1);
    device.kick();
    device.file.release();
    device.wait(|| device.driver.used_index() == 2);
}

#[test]
fn reset_does_not_wait_for_the_storage() {
    let mut device = TestDevice::active(PmemFlushOptions::default());
    device.file.hold();
    device.driver.flush(0);
    device.kick();
    device.file.wait_begun(1);

    let mut device = within(move || {
        device.pmem.reset();
        device
    });
    device.driver.reset();
    device.activate();
    device.driver.flush(0);
    device.kick();
    device.file.release();
    device.wait(|| device.driver.used_index() == 1);

    assert_eq!(device.file.ended(), 2, "the old sync answers nothing");
}

#[test]
fn failed_sync_latches_until_the_user_says_otherwise() {
    let mut device = TestDevice::active(PmemFlushOptions::default());
    device.file.fail_next(libc::EIO);

    assert_eq!(device.flush(0), FAILED);
    assert_eq!(device.flush(1), FAILED);
    device.pmem.reset();
    device.driver.reset();
    device.activate();
    assert_eq!(device.flush(0), FAILED, "a reset does not repair the file");
    assert_eq!(device.counter("latched"), 1);

    let mut device = device.pause();
    let error = format!("{:?}", device.pmem.snapshot().err().unwrap());
    assert!(error.contains("latched"), "{error}");
    device.allow_unsynced.store(true, Ordering::SeqCst);
    let state = state_of(&device.pmem.snapshot().unwrap());

    let mut device = device.restore(state);
    device.activate();
    device.pmem.resume().unwrap();
    assert_eq!(device.flush(1), FAILED, "nor does a restore");
}

#[test]
fn device_after_a_reboot_is_latched_as_the_one_before() {
    let mut before = TestDevice::active(PmemFlushOptions::default());
    let engine = before.pmem.engine();
    let mut after = TestDevice::active(PmemFlushOptions::default());
    after.pmem.inherit_latch(&engine);
    assert_eq!(after.flush(0), 0);

    // The guest reboots while a sync runs, which then fails.
    let file = before.file.clone();
    file.hold();
    file.fail_next(libc::EIO);
    before.driver.flush(0);
    before.kick();
    file.wait_begun(1);
    drop(before);
    file.release();
    // The worker takes this up after that.
    let deadline = Instant::now() + PATIENCE;
    engine.begin_drain(deadline);
    engine.wait_drain().unwrap();
    engine.sync_file(deadline, true).unwrap();

    after.pmem.inherit_latch(&engine);
    assert_eq!(after.flush(1), FAILED);
    assert_eq!(after.file.begun(), 1, "a latched device does not sync");
}

#[test]
fn report_policy_believes_the_next_sync() {
    let mut device = TestDevice::active(PmemFlushOptions {
        sync_error: SyncErrorPolicy::Report,
        ..Default::default()
    });
    device.file.fail_next(libc::EIO);

    assert_eq!(device.flush(0), FAILED);
    assert_eq!(device.flush(1), 0);
}

#[test]
fn snapshot_syncs_the_file_and_fails_by_name() {
    let device = TestDevice::active(PmemFlushOptions::default());
    let mut device = device.pause();

    device.pmem.snapshot().unwrap();
    assert_eq!(device.file.ended(), 1);

    device.file.hold();
    device.pmem.flush.drain_timeout = QUICK;
    let error = format!("{:?}", device.pmem.snapshot().err().unwrap());
    assert!(error.contains("file sync timed out"), "{error}");
    device.file.release();
}

#[test]
fn snapshots_sync_their_files_at_once() {
    let devices = [(); 2].map(|()| TestDevice::active(PmemFlushOptions::default()).pause());
    let [mut first, mut second] = devices;
    first.file.hold();
    second.file.hold();

    first.pmem.prepare_snapshot();
    second.pmem.prepare_snapshot();
    first.file.wait_begun(1);
    second.file.wait_begun(1);
    first.file.release();
    second.file.release();
    first.pmem.snapshot().unwrap();
    assert!(
        state_of(&second.pmem.snapshot().unwrap())
            .engine
            .stamp
            .is_some()
    );
    assert_eq!(first.file.ended(), 1);
    assert_eq!(second.file.ended(), 1);
}

#[test]
fn snapshot_that_was_prepared_in_vain_can_be_taken_again() {
    let mut device = TestDevice::active(PmemFlushOptions::default());
    // Not paused, and latched: both are the snapshot's to tell.
    device.file.fail_next(libc::EIO);
    assert_eq!(device.flush(0), FAILED);
    device.pmem.prepare_snapshot();
    let error = format!("{:?}", device.pmem.snapshot().err().unwrap());
    assert!(error.contains("latched"), "{error}");
    device.pmem.resume().unwrap();

    let mut device = TestDevice::active(PmemFlushOptions::default()).pause();
    device.pmem.prepare_snapshot();
    device.pmem.resume().unwrap();
    device.pmem.pause().unwrap();
    device.pmem.snapshot().unwrap();
}

#[test]
fn device_that_was_added_to_a_paused_vm_can_be_snapshotted() {
    let mut device = TestDevice::new(PmemFlushOptions::default());
    let state = state_of(&device.pmem.snapshot().unwrap());
    assert!(state.engine.stamp.is_some());

    // The VM's resume lets it run.
    device.pmem.resume().unwrap();
    device.activate();
    assert_eq!(device.flush(0), 0);
}

#[test]
fn file_that_another_vm_has_used_is_not_gone_on_with() {
    let device = TestDevice::active(PmemFlushOptions::default());
    let mut device = device.pause();
    device.pmem.check_unchanged().unwrap();
    device.pmem.snapshot().unwrap();
    device.pmem.check_unchanged().unwrap();

    let file = create_file(&device.dir.path().join("pmem"));
    file.set_modified(SystemTime::now() + Duration::from_secs(1))
        .unwrap();
    let error = device.pmem.check_unchanged().unwrap_err().to_string();
    assert!(error.contains("stale"), "{error}");
}

#[test]
fn restored_device_answers_what_the_old_one_left() {
    let mut device = TestDevice::active(PmemFlushOptions::default());
    device.pmem.ack_features(1 << VIRTIO_F_VERSION_1);
    assert_eq!(device.flush(0), 0);
    let mut device = device.pause();
    let head = device.driver.flush(1);
    device.kick();
    let state = state_of(&device.pmem.snapshot().unwrap());

    let mut device = device.restore(state);
    device.pmem.check_file(false).unwrap();
    device.activate();
    device.kick();
    assert_eq!(device.driver.used_index(), 1, "it starts paused");
    device.pmem.resume().unwrap();
    assert_eq!(device.used_len(head), 4);
    assert_eq!(device.driver.status(head), 0);
    let device = device.pause();
    assert_eq!(device.counter("flushes"), 2, "counters go on");
    let state = device.pmem.state();
    assert_eq!(state.acked_features, 1 << VIRTIO_F_VERSION_1);
    assert_eq!(state.config.size, FILE_SIZE);
}

#[test]
fn snapshot_without_engine_state_loads() {
    let device = TestDevice::new(PmemFlushOptions::default());
    let state: PmemState = serde_json::from_str(
        r#"{"avail_features":4294967296,"acked_features":4294967296,
            "config":{"start":4294967296,"size":4096}}"#,
    )
    .unwrap();

    let mut device = device.restore(state);
    device.pmem.check_file(false).unwrap();
    device.activate();
    device.pmem.resume().unwrap();
    assert_eq!(device.flush(0), 0);
}

#[test]
fn file_that_moved_on_is_refused() {
    let device = TestDevice::active(PmemFlushOptions::default());
    let mut device = device.pause();
    let state = state_of(&device.pmem.snapshot().unwrap());
    let device = device.restore(state);
    device.pmem.check_file(false).unwrap();

    // A copy that keeps its times fits, whatever its inode.
    let path = device.dir.path().join("pmem");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let copy = create_file(&device.dir.path().join("copy"));
    copy.set_modified(modified).unwrap();
    fs::rename(device.dir.path().join("copy"), &path).unwrap();
    let state = device.pmem.state();
    let stamp = device.pmem.restored_stamp;
    let mut device = device.restore(PmemState {
        engine: EngineState {
            stamp,
            ..state.engine
        },
        ..state
    });
    device.pmem.check_file(false).unwrap();

    copy.set_modified(modified + Duration::from_nanos(1000))
        .unwrap();
    let error = device.pmem.check_file(false).unwrap_err().to_string();
    assert!(error.contains("stale"), "{error}");
    device.pmem.check_file(true).unwrap();

    copy.set_modified(modified).unwrap();
    copy.set_len(2 * FILE_SIZE).unwrap();
    copy.set_modified(modified).unwrap();
    device.pmem.check_file(false).unwrap_err();
    device.pmem.unlock_file();
}

#[test]
fn file_has_one_writer_or_many_readers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pmem");
    let lock = |sync| lock_pmem_file("_pmem0", &create_file(&path), sync);

    let writer = lock(SyncMode::File).unwrap();
    assert!(writer.is_some());
    assert!(matches!(lock(SyncMode::File), Err(LockError::Locked)));
    assert!(matches!(lock(SyncMode::Skip), Err(LockError::Locked)));

    drop(writer);
    let reader = lock(SyncMode::Skip).unwrap();
    let _another = lock(SyncMode::Skip).unwrap();
    assert!(matches!(lock(SyncMode::File), Err(LockError::Locked)));
    drop(reader);
}

#[test]
fn device_hands_its_lock_over() {
    let mut device = TestDevice::new(PmemFlushOptions::default());
    let file = create_file(&device.dir.path().join("pmem"));

    device.pmem.try_lock_file().unwrap();
    device.pmem.try_lock_file().unwrap();
    assert!(matches!(
        lock_pmem_file("other", &file, SyncMode::File),
        Err(LockError::Locked)
    ));

    device.pmem.unlock_file();
    let held = lock_pmem_file("other", &file, SyncMode::File).unwrap();
    assert!(matches!(
        device.pmem.try_lock_file(),
        Err(LockError::Locked)
    ));
    drop(held);
    device.pmem.try_lock_file().unwrap();
}

#[test]
fn addresses_are_translated_behind_an_iommu() {
    let offset = 0x8000_0000;
    let mut device = TestDevice::new(PmemFlushOptions::default());
    device.pmem.set_access_platform(Arc::new(Offset(offset)));
    device.pmem.ack_features(1 << VIRTIO_F_ACCESS_PLATFORM);
    device.activate();

    let buffer = offset + GuestDriver::buffer(0);
    device.driver.set_request(0, REQUEST_FLUSH);
    device.driver.set_desc(0, Desc(buffer, 4, NEXT, 1));
    device
        .driver
        .set_desc(1, Desc(buffer + STATUS_OFFSET, 4, WRITE, 0));

    assert_eq!(device.answer_to(0), 4);
    assert_eq!(device.driver.status(0), 0);
}

/// A call that the filters lack ends the tests' process.
#[test]
fn threads_keep_to_their_seccomp_rules() {
    let mut device = TestDevice::with(PmemFlushOptions::default(), SeccompAction::KillProcess);
    device.activate();
    assert_eq!(device.flush(0), 0);
    let mut device = device.pause();
    device.pmem.snapshot().unwrap();
    device.pmem.resume().unwrap();

    // The worker itself reports a sync that fails after a reset.
    device.file.hold();
    device.file.fail_next(libc::EIO);
    let begun = device.file.begun();
    device.driver.flush(1);
    device.kick();
    device.file.wait_begun(begun + 1);
    device.pmem.reset();
    device.driver.reset();
    device.activate();
    device.file.release();
    assert_eq!(device.flush(0), FAILED);

    device.driver.publish(QUEUE_SIZE);
    device.kick();
    device.wait(|| device.interrupt.config.load(Ordering::SeqCst) == 1);
    device.pause().pmem.reset();
}
