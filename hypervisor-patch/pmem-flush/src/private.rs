// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! What the guest has written into a private mapping: no file holds it, and no
//! snapshot does.
//!
//! A write to such a mapping gives the process a page of its own in place of
//! the file's. /proc/self/pagemap tells the two apart, so that a device whose
//! guest only reads is left alone.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Where a device's private mapping is in this process: whole pages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PrivateMapping {
    /// Address of its first byte.
    pub address: usize,
    /// Its length in bytes.
    pub len: usize,
}

/// An entry of pagemap: the page is in memory.
const PRESENT: u64 = 1 << 63;
/// An entry of pagemap: the page is in swap.
const SWAPPED: u64 = 1 << 62;
/// An entry of pagemap: the page is a file's (or shared memory), not our own.
const OF_FILE: u64 = 1 << 61;

/// An entry's size, and that of a read: the entries of 32 MiB with 4 KiB pages.
const ENTRY: usize = size_of::<u64>();
const CHUNK: usize = 8192 * ENTRY;

/// A private mapping that is watched for pages of its own.
#[derive(Debug)]
pub(crate) struct PrivatePages {
    mapping: PrivateMapping,
    /// Opened when the device is made: later a sandbox may be in the way. If it
    /// is already then, the snapshot has to know.
    pagemap: io::Result<File>,
}

impl PrivatePages {
    pub(crate) fn new(mapping: PrivateMapping) -> Self {
        let pagemap = File::open("/proc/self/pagemap");
        PrivatePages { mapping, pagemap }
    }

    /// How many pages are not the file's any more. Nobody may write to the
    /// mapping meanwhile.
    pub(crate) fn written(&self) -> io::Result<u64> {
        let mut pagemap = match &self.pagemap {
            Ok(file) => file,
            Err(error) => return Err(io::Error::new(error.kind(), error.to_string())),
        };
        let page = page_size()?;
        let entry = |address: usize| (address / page).saturating_mul(ENTRY);
        let PrivateMapping { address, len } = self.mapping;
        let from = entry(address);
        let mut left = entry(address.saturating_add(len)).saturating_sub(from);
        pagemap.seek(SeekFrom::Start(from as u64))?;
        let mut entries = vec![0; CHUNK.min(left)];
        let mut written = 0;
        while left > 0 {
            let chunk = CHUNK.min(left);
            pagemap.read_exact(&mut entries[..chunk])?;
            written += count_own(&entries[..chunk]);
            left -= chunk;
        }
        Ok(written)
    }
}

fn count_own(entries: &[u8]) -> u64 {
    let (entries, _) = entries.as_chunks::<ENTRY>();
    let own = entries.iter().filter(|bytes| {
        let entry = u64::from_ne_bytes(**bytes);
        entry & (PRESENT | SWAPPED) != 0 && entry & OF_FILE == 0
    });
    own.count() as u64
}

fn page_size() -> io::Result<usize> {
    // SAFETY: the call has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    match usize::try_from(size) {
        Ok(size @ 1..) => Ok(size),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_our_own_count() {
        let other = OF_FILE | 0x55;
        let entries = [
            0,
            other,
            PRESENT,
            PRESENT | other,
            SWAPPED,
            SWAPPED | other,
            PRESENT | 1 << 56,
        ];
        let bytes: Vec<u8> = entries.iter().flat_map(|e: &u64| e.to_ne_bytes()).collect();
        assert_eq!(count_own(&bytes), 3);
    }

    #[test]
    fn a_map_that_cannot_be_read_is_an_error() {
        let pages = |pagemap| PrivatePages {
            mapping: PrivateMapping {
                address: 0x1000,
                len: 0x1000,
            },
            pagemap,
        };
        let closed = io::Error::from_raw_os_error(libc::EACCES);
        let error = pages(Err(closed)).written().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let short = tempfile::tempfile().unwrap();
        pages(Ok(short)).written().unwrap_err();
    }
}
