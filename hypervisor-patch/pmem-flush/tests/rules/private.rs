// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! Rule 10: what the guest wrote into a private mapping is in no snapshot.

use super::*;

const PAGES: usize = 24;

/// A private mapping of a file, as a guest has one with `discard_writes=on`.
struct Private {
    memory: Arc<MmapRegion>,
    page: usize,
    file: Arc<File>,
}

impl Private {
    fn new() -> Self {
        // SAFETY: the call has no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).expect("page size");
        let file = tempfile::tempfile().expect("file");
        file.set_len((PAGES * page) as u64).expect("size");
        let file = Arc::new(file);
        let memory = MmapRegion::build(
            Some(FileOffset::from_arc(file.clone(), 0)),
            PAGES * page,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE,
        );
        Private {
            memory: Arc::new(memory.expect("mapping")),
            page,
            file,
        }
    }

    fn mapping(&self) -> PrivateMapping {
        PrivateMapping {
            memory: self.memory.clone(),
            file: self.file.clone(),
        }
    }

    fn write(&self, page: usize) {
        self.put(page, 1);
    }

    fn put(&self, page: usize, value: u8) {
        let memory = self.memory.as_volatile_slice();
        memory.write_obj(value, page * self.page).expect("write");
    }

    fn read_all(&self) {
        let memory = self.memory.as_volatile_slice();
        for page in 0..PAGES {
            assert_eq!(memory.read_obj::<u8>(page * self.page).expect("read"), 0);
        }
    }

    fn device(&self) -> TestDevice {
        device_with(self.mapping())
    }
}

fn device_with(private: PrivateMapping) -> TestDevice {
    let mut config = config();
    config.sync = SyncMode::Skip;
    config.private = Some(private);
    TestDevice::new(config, backing(), SIZE)
}

#[test]
fn rule_10_a_guest_that_only_reads_is_left_alone() {
    let private = Private::new();
    let device = private.device();
    private.read_all();
    drain(&device);
    assert!(device.engine.sync_file(soon(), false).unwrap().is_some());
    device.engine.sync_file(soon(), true).unwrap();
    let events = device.events.take();
    assert_eq!(events, ["activated", "drain-started", "drain-done"]);
}

#[test]
fn rule_10_written_pages_of_a_private_mapping_refuse_the_snapshot() {
    let private = Private::new();
    let device = private.device();
    private.read_all();
    // The mapping's first and last page are part of it.
    for page in [0, 7, PAGES - 1] {
        private.write(page);
    }
    drain(&device);
    let error = device.engine.sync_file(soon(), false).unwrap_err();
    assert!(matches!(error, Error::DiscardedWrites(3)), "{error}");
    assert!(error.to_string().contains("3 page"), "{error}");
    assert_eq!(device.engine.save().stamp, None);
    device.events.take();

    assert!(device.engine.sync_file(soon(), true).unwrap().is_some());
    assert_eq!(device.events.take(), ["discarded-writes-not-in-snapshot"]);
    let event = Event::DiscardedWrites { pages: Some(3) };
    assert_eq!(event.properties(), [("pages", "3".to_owned())]);
    let event = Event::DiscardedWrites { pages: None };
    assert_eq!(event.properties(), [("pages", "unknown".to_owned())]);
}

#[test]
fn rule_10_a_page_of_its_own_that_is_as_the_file_has_it_is_not_lost() {
    let private = Private::new();
    let device = private.device();
    // What KVM does for a guest's read, and a write of what is there.
    private.put(3, 0);
    drain(&device);
    device.engine.sync_file(soon(), false).unwrap();
    // The file is compared page by page, each with its own.
    let page = private.page as u64;
    private.file.write_all_at(&[7], 5 * page).unwrap();
    private.put(6, 7);
    private.put(5, 7);
    let error = device.engine.sync_file(soon(), false).unwrap_err();
    assert!(matches!(error, Error::DiscardedWrites(1)), "{error}");
}

#[test]
fn rule_10_what_a_file_has_no_bytes_for_is_zero() {
    let private = Private::new();
    let device = private.device();
    // What is compared before must not be taken for what the file lacks.
    private
        .file
        .write_all_at(&vec![9; private.page], 0)
        .unwrap();
    private.put(0, 9);
    let half = private.page as u64 / 2;
    let len = (PAGES * private.page) as u64;
    private.file.set_len(len - half).unwrap();
    private.put(PAGES - 1, 0);
    drain(&device);
    device.engine.sync_file(soon(), false).unwrap();
    private.put(PAGES - 1, 1);
    let error = device.engine.sync_file(soon(), false).unwrap_err();
    assert!(matches!(error, Error::DiscardedWrites(1)), "{error}");
}

/// Part of a region.
#[derive(Debug)]
struct Part {
    of: Arc<MmapRegion>,
    from: usize,
    size: usize,
}

impl PrivateMemory for Part {
    fn address(&self) -> usize {
        self.of.address() + self.from
    }

    fn size(&self) -> usize {
        self.size
    }

    fn read_at(&self, buffer: &mut [u8], offset: usize) -> io::Result<()> {
        self.of.read_at(buffer, self.from + offset)
    }
}

#[test]
fn rule_10_pages_beside_the_mapping_are_not_the_guests() {
    let private = Private::new();
    let device = device_with(PrivateMapping {
        memory: Arc::new(Part {
            of: private.memory.clone(),
            from: 2 * private.page,
            size: (PAGES - 4) * private.page,
        }),
        file: private.file.clone(),
    });
    private.write(1);
    private.write(PAGES - 2);
    drain(&device);
    device.engine.sync_file(soon(), false).unwrap();
}

#[test]
fn rule_10_a_device_that_runs_is_not_asked_for_its_pages() {
    let private = Private::new();
    let device = private.device();
    private.write(0);
    let error = device.engine.sync_file(soon(), false).unwrap_err();
    assert!(matches!(error, Error::NotQuiesced), "{error}");
    assert_eq!(device.events.take(), ["activated"]);
}

/// Memory that can be read once the sender is gone, as on a disk that hangs.
#[derive(Debug)]
struct Hung {
    of: Arc<MmapRegion>,
    until: Mutex<Receiver<()>>,
}

impl PrivateMemory for Hung {
    fn address(&self) -> usize {
        self.of.address()
    }

    fn size(&self) -> usize {
        PrivateMemory::size(&*self.of)
    }

    fn read_at(&self, buffer: &mut [u8], offset: usize) -> io::Result<()> {
        let _ = self.until.lock().expect("until").recv();
        self.of.read_at(buffer, offset)
    }
}

#[test]
fn rule_05_pages_that_cannot_be_compared_in_time_hold_up_nobody() {
    let private = Private::new();
    private.write(0);
    let (hold, until) = channel();
    let device = device_with(PrivateMapping {
        memory: Arc::new(Hung {
            of: private.memory.clone(),
            until: Mutex::new(until),
        }),
        file: private.file.clone(),
    });
    drain(&device);
    device.events.take();
    let short = || Instant::now() + Duration::from_millis(20);
    let error = device.engine.sync_file(short(), false).unwrap_err();
    assert!(matches!(error, Error::FileSyncTimedOut), "{error}");
    assert_eq!(device.engine.sync_file(short(), true).unwrap(), None);
    assert_eq!(device.events.take(), ["discarded-writes-not-in-snapshot"]);
    drop(hold);
    let error = device.engine.sync_file(soon(), false).unwrap_err();
    assert!(matches!(error, Error::DiscardedWrites(1)), "{error}");
}
