// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The whole device as a guest's driver meets it: through the registers, on a disk that
//! can be held. Only KVM is missing: the kick is the driver's write to the register.

use std::fs::File;
use std::sync::Mutex;
use std::thread;
use std::time::{Instant, SystemTime};

use pmem_flush::DrainStatus;
use pmem_flush::test_utils::{GuestDriver, HeldFile, PATIENCE, within};
use tempfile::NamedTempFile;
use virtio_queue::QueueT;

use super::super::line::{INTERRUPT_USED, status};
use super::super::mmio::Mmio;
use super::super::registers as reg;
use super::*;
use crate::devices::IrqLine;

const BASE: u64 = 1 << 32;
const SIZE: u64 = 2 << 20;
const LIVE: u32 = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK;

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl EventSink for Log {
    fn event(&self, source: &str, event: &str, properties: &[(&str, &str)]) {
        assert_eq!(source, "virtio-device");
        assert_eq!(properties[0], ("id", "p0"));
        self.0.lock().unwrap().push(event.to_owned());
    }
}

struct Machine {
    mmio: Mmio<Pmem>,
    driver: GuestDriver,
    disk: Arc<HeldFile>,
    log: Arc<Log>,
    file: NamedTempFile,
}

fn config(file: &NamedTempFile) -> PmemConfig {
    let input = format!(
        "file={},size=2M,id=p0,drain_timeout=1",
        file.path().display()
    );
    PmemConfig::parse(&input, 0).unwrap()
}

fn device(
    file: &NamedTempFile,
    ram: &GuestMemoryMmap,
    disk: Arc<HeldFile>,
    log: Arc<Log>,
    saved: Option<(&PmemState, bool)>,
) -> Result<Pmem, VmError> {
    let config = config(file);
    let mapping = Mapping::open(&config)?;
    let events: Arc<dyn EventSink> = log;
    Pmem::with_backend(&config, mapping, disk, BASE, ram, &events, saved)
}

impl Machine {
    fn new() -> Self {
        let file = NamedTempFile::new().unwrap();
        file.as_file().set_len(SIZE).unwrap();
        Self::with(file, GuestDriver::new(128), None)
    }

    fn with(file: NamedTempFile, driver: GuestDriver, saved: Option<(&PmemState, bool)>) -> Self {
        let disk = Arc::new(HeldFile::new(File::open(file.path()).unwrap()));
        let log = Arc::new(Log::default());
        let ram = driver.memory().clone();
        let device = device(&file, &ram, disk.clone(), log.clone(), saved).unwrap();
        let mmio = Mmio::new(device, ram, Line::new(IrqLine::loose())).unwrap();
        Self {
            mmio,
            driver,
            disk,
            log,
            file,
        }
    }

    fn read(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.mmio.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn write(&mut self, offset: u64, value: u32) {
        self.mmio.write(offset, &value.to_le_bytes());
    }

    /// What a driver does to come up.
    fn bring_up(&mut self, features: u64) {
        let queue = self.driver.queue();
        let low = |address: u64| u32::try_from(address).unwrap();
        self.write(reg::STATUS, status::ACKNOWLEDGE | status::DRIVER);
        self.write(reg::DRIVER_FEATURES_SELECT, 1);
        self.write(reg::DRIVER_FEATURES, 1);
        self.write(reg::DRIVER_FEATURES_SELECT, 0);
        self.write(reg::DRIVER_FEATURES, low(features));
        self.write(reg::STATUS, LIVE & !status::DRIVER_OK);
        self.write(reg::QUEUE_SIZE, 128);
        self.write(reg::QUEUE_DESC_LOW, low(queue.desc_table()));
        self.write(reg::QUEUE_DRIVER_LOW, low(queue.avail_ring()));
        self.write(reg::QUEUE_DEVICE_LOW, low(queue.used_ring()));
        self.write(reg::QUEUE_READY, 1);
        self.write(reg::STATUS, LIVE);
        assert_eq!(self.read(reg::STATUS), LIVE);
    }

    /// Publishes flush `n` and kicks.
    fn flush(&mut self, n: u16) -> u16 {
        let head = self.driver.flush(n);
        self.write(reg::QUEUE_NOTIFY, 0);
        head
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < end, "never came: {what}");
            thread::yield_now();
        }
    }

    fn await_answers(&mut self, count: usize) {
        let mut answers = 0;
        self.until("answers", |m| {
            answers += m.driver.take_used().len();
            answers >= count
        });
        assert_eq!(answers, count);
    }

    fn engine(&self) -> &FlushEngine {
        self.mmio.device().engine()
    }

    fn drain(&mut self) -> DrainStatus {
        self.engine().begin_drain(Instant::now() + PATIENCE);
        let mut now = DrainStatus::Pending;
        self.until("end of the drain", |m| {
            now = m.engine().poll_drain();
            now != DrainStatus::Pending
        });
        now
    }
}

#[test]
fn a_flush_goes_from_the_kick_to_the_interrupt() {
    let mut m = Machine::new();
    m.bring_up(SHMEM_REGION);
    let head = m.flush(0);
    m.await_answers(1);
    assert_eq!(m.driver.status(head), 0);
    assert_eq!(m.disk.ended(), 1);
    m.until("the interrupt", |m| {
        m.read(reg::INTERRUPT_STATUS) == INTERRUPT_USED
    });
    assert_eq!(*m.log.0.lock().unwrap(), ["activated"]);
}

#[test]
fn a_driver_finds_the_memory_in_region_0_or_in_the_configuration() {
    let mut m = Machine::new();
    m.bring_up(SHMEM_REGION);
    assert_eq!([m.read(reg::CONFIG), m.read(reg::CONFIG + 12)], [0, 0]);
    assert_eq!(m.read(reg::SHM_BASE_HIGH), 1);
    assert_eq!(u64::from(m.read(reg::SHM_LEN_LOW)), SIZE);
    m.write(reg::STATUS, 0);
    m.bring_up(0);
    assert_eq!(m.read(reg::CONFIG + 4), 1, "start, high half");
    assert_eq!(u64::from(m.read(reg::CONFIG + 8)), SIZE);
}

#[test]
fn a_reset_returns_at_once_though_the_disk_hangs() {
    let mut m = Machine::new();
    m.bring_up(0);
    m.disk.hold();
    m.flush(0);
    m.disk.wait_begun(1);
    // The vCPU's write; `within` fails if it waits for the disk.
    let mut m = within(move || {
        m.write(reg::STATUS, 0);
        m
    });
    assert_eq!(m.read(reg::STATUS), 0);
    m.driver.reset();
    m.bring_up(0);
    m.flush(1);
    assert!(m.driver.take_used().is_empty(), "the old sync still hangs");
    m.disk.release();
    m.await_answers(1);
    assert_eq!(m.disk.most_at_once(), 1);
}

#[test]
fn dropping_the_device_does_not_wait_for_a_disk_that_hangs() {
    let mut m = Machine::new();
    m.bring_up(0);
    m.disk.hold();
    m.flush(0);
    m.disk.wait_begun(1);
    let disk = m.disk.clone();
    within(move || drop(m));
    disk.release();
}

#[test]
fn a_drain_ends_with_every_request_answered_and_a_resume_takes_the_rest() {
    let mut m = Machine::new();
    m.bring_up(0);
    m.disk.hold();
    m.flush(0);
    m.disk.wait_begun(1);
    m.engine().begin_drain(Instant::now() + PATIENCE);
    m.flush(1);
    assert_eq!(m.engine().poll_drain(), DrainStatus::Pending);
    m.disk.release();
    m.until("the drain", |m| {
        m.engine().poll_drain() == DrainStatus::Drained
    });
    m.await_answers(1);
    m.engine().resume();
    m.await_answers(1);
}

#[test]
fn a_restored_device_answers_what_was_published_before_the_snapshot() {
    let mut old = Machine::new();
    old.bring_up(SHMEM_REGION);
    old.flush(0);
    old.await_answers(1);
    assert_eq!(old.drain(), DrainStatus::Drained);
    let head = old.flush(1);
    let stamp = old.engine().sync_file(Instant::now() + PATIENCE, false);
    assert!(stamp.unwrap().is_some());
    let state = serde_json::to_string(&(old.mmio.save(), old.mmio.device().save())).unwrap();
    let Machine {
        mmio, driver, file, ..
    } = old;
    drop(mmio);

    let (transport, device): (_, PmemState) = serde_json::from_str(&state).unwrap();
    let mut new = Machine::with(file, driver, Some((&device, false)));
    new.mmio.restore(&transport).unwrap();
    assert_eq!(new.engine().counters().flushes, 1, "counters go on");
    new.engine().resume();
    // A kick is not part of a snapshot.
    new.await_answers(1);
    assert_eq!(new.driver.status(head), 0);
    // It is counted after the answer is in the ring.
    new.until("the count", |m| m.engine().counters().flushes == 2);
}

#[test]
fn a_file_that_has_moved_on_is_stale_unless_the_user_says_so() {
    let mut old = Machine::new();
    old.bring_up(0);
    assert_eq!(old.drain(), DrainStatus::Drained);
    let unsynced = old.mmio.device().save();
    old.engine()
        .sync_file(Instant::now() + PATIENCE, false)
        .unwrap();
    let synced = old.mmio.device().save();
    let Machine {
        mmio,
        driver,
        file,
        disk,
        log,
    } = old;
    drop(mmio);
    let restore = |state: &PmemState, allow_stale| {
        let saved = Some((state, allow_stale));
        device(&file, driver.memory(), disk.clone(), log.clone(), saved).map(drop)
    };
    let refused = |state: &PmemState| restore(state, false).unwrap_err().to_string();

    restore(&synced, false).unwrap();
    assert!(refused(&unsynced).contains("stale"));
    // What a guest's first write to a clean page does.
    file.as_file().set_modified(SystemTime::now()).unwrap();
    assert!(refused(&synced).contains("stale"), "{}", refused(&synced));
    restore(&synced, true).unwrap();
    restore(&unsynced, true).unwrap();
}

#[test]
fn a_broken_ring_asks_for_a_reset_and_works_after_it() {
    let mut m = Machine::new();
    m.bring_up(0);
    m.driver.set_avail_index(1000);
    m.write(reg::QUEUE_NOTIFY, 0);
    m.until("NEEDS_RESET", |m| {
        m.read(reg::STATUS) == LIVE | status::NEEDS_RESET
    });
    assert_eq!(m.drain(), DrainStatus::Drained);
    m.engine().resume();
    m.write(reg::STATUS, 0);
    m.driver.reset();
    m.bring_up(0);
    m.flush(0);
    m.await_answers(1);
}

#[test]
fn a_file_is_locked_against_a_second_device() {
    let m = Machine::new();
    let error = Mapping::open(&config(&m.file)).err().unwrap();
    assert!(error.to_string().contains("locked"), "{error}");
    let Machine { mmio, file, .. } = m;
    drop(mmio);
    Mapping::open(&config(&file)).unwrap();
}

#[test]
fn a_snapshot_does_not_lose_what_the_guest_wrote_with_discard_writes() {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(SIZE).unwrap();
    let mut config = config(&file);
    config.discard_writes = true;
    let mapping = Mapping::open(&config).unwrap();
    let address = mapping.private().memory.address() as *mut u8;
    let log = Arc::new(Log::default());
    let events: Arc<dyn EventSink> = log.clone();
    let driver = GuestDriver::new(128);
    let device = Pmem::new(&config, mapping, BASE, driver.memory(), &events, None).unwrap();
    let engine = device.engine();
    let soon = || Instant::now() + PATIENCE;
    engine.begin_drain(soon());
    engine.wait_drain().unwrap();

    // SAFETY: the mapping is SIZE bytes long and lives as long as the device.
    assert_eq!(unsafe { address.read_volatile() }, 0);
    engine.sync_file(soon(), false).unwrap();
    // SAFETY: as above.
    unsafe { address.write_volatile(1) };
    let error = engine_error("p0", &engine.sync_file(soon(), false).unwrap_err());
    assert!(error.to_string().contains("discard_writes=on"), "{error}");
    engine.sync_file(soon(), true).unwrap();
    let told = log.0.lock().unwrap();
    assert_eq!(told.last().unwrap(), "discarded-writes-not-in-snapshot");
    drop(told);

    // Such a file may be a copy with a time of its own.
    let state = device.save();
    drop(device);
    file.as_file().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let mapping = Mapping::open(&config).unwrap();
    let saved = Some((&state, false));
    Pmem::new(&config, mapping, BASE, driver.memory(), &events, saved).unwrap();
}
