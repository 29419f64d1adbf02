// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! Rule 10: a snapshot and its file belong together.

use super::*;

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
    stamp
        .check(&FileStamp::of(file).unwrap(), SyncMode::File, false)
        .unwrap();

    let later = FileStamp {
        mtime_nsec: stamp.mtime_nsec ^ 1,
        ..stamp
    };
    let error = stamp.check(&later, SyncMode::File, false).unwrap_err();
    assert!(error.to_string().contains("stale"), "{error}");
    stamp.check(&later, SyncMode::File, true).unwrap();
    let shorter = FileStamp { size: 1, ..stamp };
    stamp.check(&shorter, SyncMode::File, false).unwrap_err();
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
    while stamp
        .check(&FileStamp::of(file).unwrap(), SyncMode::File, false)
        .is_ok()
    {
        assert!(Instant::now() < end, "a write left the stamp as it was");
        file.sync_all().unwrap();
        write_through_mapping(file, value);
        value = value.wrapping_add(1);
    }
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
        .check(
            &FileStamp::of(copy.as_file()).unwrap(),
            SyncMode::File,
            false,
        )
        .unwrap();
}

#[test]
fn rule_10_a_copy_of_a_file_that_is_only_read_needs_no_times() {
    let stamp = FileStamp {
        size: 0x1000,
        mtime: 1,
        mtime_nsec: 2,
    };
    let copy = FileStamp { mtime: 3, ..stamp };
    stamp.check(&copy, SyncMode::Skip, false).unwrap();
    stamp.check(&copy, SyncMode::File, false).unwrap_err();
    let shorter = FileStamp { size: 1, ..stamp };
    stamp.check(&shorter, SyncMode::Skip, false).unwrap_err();
    stamp.check(&shorter, SyncMode::Skip, true).unwrap();
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

/// The sizes in bytes of the block devices that may be read here.
fn block_devices() -> impl Iterator<Item = (PathBuf, u64)> {
    let devices = fs::read_dir("/sys/class/block").into_iter().flatten();
    devices.flatten().filter_map(|device| {
        let sectors = fs::read_to_string(device.path().join("size")).ok()?;
        let bytes = sectors.trim().parse::<u64>().ok()? * 512;
        let node = Path::new("/dev").join(device.file_name());
        (bytes > 0 && File::open(&node).is_ok()).then_some((node, bytes))
    })
}

/// Tried with every one there is: as root, with the machine's own disk.
#[test]
fn rule_10_a_block_device_has_its_size() {
    for (node, bytes) in block_devices() {
        let stamp = FileStamp::of(&File::open(&node).unwrap()).unwrap();
        let whole = FileStamp {
            size: bytes,
            mtime: 0,
            mtime_nsec: 0,
        };
        assert_eq!(stamp, whole, "{}", node.display());
        let shrunk = FileStamp {
            size: bytes - 512,
            ..whole
        };
        stamp.check(&shrunk, SyncMode::File, false).unwrap_err();
    }
}

/// A device node's time is the host's, not the guest's.
#[test]
fn rule_10_only_a_regular_file_has_a_time() {
    let node = FileStamp::of(&File::open("/dev/null").unwrap()).unwrap();
    assert_eq!((node.mtime, node.mtime_nsec), (0, 0));
    assert_ne!(FileStamp::of(&disk_file()).unwrap().mtime, 0);
}
