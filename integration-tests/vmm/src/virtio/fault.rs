// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Why KVM could not reach a page of a pmem device's file: the guest wrote into a hole and
//! the disk is full, the file was truncated under it, or the disk failed. There is no
//! flush that could tell the guest, and KVM ends the vCPU with EFAULT.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::mapping::Mapping;

/// Whose memory is where.
pub struct PmemWindow {
    /// The device's id.
    pub id: String,
    /// Its file's name.
    pub path: PathBuf,
    /// Its first guest address.
    pub base: u64,
    /// Its memory.
    pub mapping: Arc<Mapping>,
}

impl PmemWindow {
    /// Whether a guest address is the device's.
    pub fn holds(&self, address: u64) -> bool {
        self.offset(address).is_some()
    }

    fn offset(&self, address: u64) -> Option<u64> {
        address
            .checked_sub(self.base)
            .filter(|offset| *offset < self.mapping.size())
    }
}

/// One line that names the file and the offset behind a guest address.
pub fn explain(windows: &[PmemWindow], address: u64) -> String {
    windows
        .iter()
        .find_map(|window| Some(at(window, window.offset(address)?)))
        .unwrap_or_else(|| format!("KVM cannot reach guest address {address:#x}"))
}

/// The same if KVM did not say which address failed: that of these which the file cannot
/// give, or else whatever a file lacks.
pub fn explain_near(windows: &[PmemWindow], addresses: &[u64]) -> String {
    for address in addresses {
        let found = windows.iter().find_map(|window| {
            let offset = window.offset(*address)?;
            is_missing(window, offset).then(|| at(window, offset))
        });
        if let Some(text) = found {
            return text;
        }
    }
    let suspects: Vec<_> = windows.iter().filter_map(suspect).collect();
    match suspects.as_slice() {
        [] => "KVM cannot reach a page of the guest's memory (EFAULT)".into(),
        several => several.join("; or "),
    }
}

/// Whether the file cannot give the page at `offset`: it ends before, has a hole there, or
/// the disk cannot read it.
fn is_missing(window: &PmemWindow, offset: u64) -> bool {
    let ends_before = file_size(window).is_some_and(|size| size <= offset);
    let unreadable = || window.mapping.file().read_at(&mut [0], offset).is_err();
    ends_before || is_hole(window, offset) || unreadable()
}

fn at(window: &PmemWindow, offset: u64) -> String {
    let reason = match file_size(window) {
        Some(size) if size <= offset => format!("the file ends at {size}: it was truncated"),
        _ if is_hole(window, offset) => "no disk block can be had for it: disk full?".into(),
        _ => "the disk cannot read or write it".into(),
    };
    format!(
        "pmem device {}: {} cannot be reached at offset {offset:#x}: {reason}",
        window.id,
        window.path.display()
    )
}

/// What may have failed in a window, if KVM did not say.
fn suspect(window: &PmemWindow) -> Option<String> {
    let offset = match file_size(window) {
        Some(size) if size < window.mapping.size() => size,
        _ => first_hole(window, 0).filter(|hole| *hole < window.mapping.size())?,
    };
    Some(format!("{} (or beyond)", at(window, offset)))
}

fn file_size(window: &PmemWindow) -> Option<u64> {
    window.mapping.file().metadata().ok().map(|m| m.len())
}

fn is_hole(window: &PmemWindow, offset: u64) -> bool {
    first_hole(window, offset) == Some(offset)
}

/// The first byte at or after `from` that has no block on the disk.
fn first_hole(window: &PmemWindow, from: u64) -> Option<u64> {
    let from = libc::off_t::try_from(from).ok()?;
    // SAFETY: the descriptor is open for the call, which touches no memory. Nobody uses
    // the file's position.
    let hole = unsafe { libc::lseek(window.mapping.file().as_raw_fd(), from, libc::SEEK_HOLE) };
    if hole < 0 {
        log::debug!("SEEK_HOLE: {}", io::Error::last_os_error());
    }
    u64::try_from(hole).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use pmem_flush::SyncErrorPolicy;
    use tempfile::NamedTempFile;

    use super::*;
    use crate::config::PmemConfig;

    const MIB: u64 = 1 << 20;

    fn window(file: &NamedTempFile) -> PmemWindow {
        let config = PmemConfig {
            id: "p0".into(),
            file: file.path().into(),
            size: None,
            discard_writes: false,
            drain_timeout: 1,
            sync_error: SyncErrorPolicy::Latch,
            latch: None,
            #[cfg(feature = "fault")]
            fault: None,
        };
        PmemWindow {
            id: "p0".into(),
            path: file.path().into(),
            base: 1 << 32,
            mapping: Arc::new(Mapping::open(&config).unwrap()),
        }
    }

    fn full_file() -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(&vec![1; 2 << 20]).unwrap();
        file.as_file().set_len(4 * MIB).unwrap();
        file
    }

    #[test]
    fn an_address_is_named_as_file_and_offset() {
        let file = full_file();
        let windows = [window(&file)];
        let text = explain(&windows, (1 << 32) + 3 * MIB);
        assert!(text.contains(file.path().to_str().unwrap()), "{text}");
        assert!(
            text.contains("0x300000") && text.contains("disk full"),
            "{text}"
        );
    }

    #[test]
    fn a_truncated_file_is_found_without_an_address() {
        let file = full_file();
        let windows = [window(&file)];
        file.as_file().set_len(MIB).unwrap();
        let text = explain_near(&windows, &[]);
        assert!(
            text.contains("0x100000") && text.contains("truncated"),
            "{text}"
        );
    }

    #[test]
    fn of_several_addresses_the_one_that_is_missing_is_named() {
        let file = full_file();
        let windows = [window(&file)];
        let address = |mib: u64| (1 << 32) + mib * MIB;
        let text = explain_near(&windows, &[0x1000, address(1), address(3), address(2)]);
        assert!(text.contains("offset 0x300000"), "{text}");
        assert!(!text.contains("beyond"), "{text}");
    }

    #[test]
    fn the_first_hole_is_found_without_an_address() {
        let file = full_file();
        let text = explain_near(&[window(&file)], &[]);
        assert!(text.contains("0x200000"), "{text}");
    }

    #[test]
    fn ram_is_not_blamed_on_a_file() {
        let file = full_file();
        let text = explain(&[window(&file)], 0x1000);
        assert!(text.contains("0x1000") && !text.contains("pmem"), "{text}");
    }
}
