// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! Rule 10: what the guest wrote into a private mapping is in no snapshot.

use super::*;

const PAGES: usize = 24;

/// A private mapping of a file, as a guest has one with `discard_writes=on`.
struct Private {
    address: *mut u8,
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
        // SAFETY: a new mapping of an open file; the kernel chooses its place.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                PAGES * page,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(address, libc::MAP_FAILED);
        let address = address.cast();
        let file = Arc::new(file);
        Private {
            address,
            page,
            file,
        }
    }

    fn mapping(&self) -> PrivateMapping {
        PrivateMapping {
            address: self.address as usize,
            len: PAGES * self.page,
            file: self.file.clone(),
        }
    }

    fn at(&self, page: usize) -> *mut u8 {
        assert!(page < PAGES);
        self.address.wrapping_add(page * self.page)
    }

    fn write(&self, page: usize) {
        self.put(page, 1);
    }

    fn put(&self, page: usize, value: u8) {
        // SAFETY: the page is in the mapping, which nobody else has.
        unsafe { self.at(page).write_volatile(value) };
    }

    fn read_all(&self) {
        for page in 0..PAGES {
            // SAFETY: as above.
            assert_eq!(unsafe { self.at(page).read_volatile() }, 0);
        }
    }

    fn device(&self) -> TestDevice {
        let mut config = config();
        config.sync = SyncMode::Skip;
        config.private = Some(self.mapping());
        TestDevice::new(config, backing(), SIZE)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // SAFETY: our own mapping, of this length.
        unsafe { libc::munmap(self.address.cast(), PAGES * self.page) };
    }
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

#[test]
fn rule_10_pages_beside_the_mapping_are_not_the_guests() {
    let private = Private::new();
    let mut config = config();
    config.sync = SyncMode::Skip;
    config.private = Some(PrivateMapping {
        address: private.at(2) as usize,
        len: (PAGES - 4) * private.page,
        file: private.file.clone(),
    });
    let device = TestDevice::new(config, backing(), SIZE);
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
