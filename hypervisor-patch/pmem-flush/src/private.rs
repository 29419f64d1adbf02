// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! What the guest has written into a private mapping: no file holds it, and no
//! snapshot does.
//!
//! A write to such a mapping gives the process a page of its own in place of
//! the file's. /proc/self/pagemap tells the two apart. Not each page of its own
//! was written by the guest: KVM takes a page that has to be read from the disk
//! first as if for a write (`async_pf_execute` in virt/kvm/async_pf.c). So what
//! counts is whether it differs from the file's, and a device whose guest only
//! reads is left alone.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Where a device's private mapping is in this process: whole pages.
#[derive(Clone, Debug)]
pub struct PrivateMapping {
    /// Address of its first byte.
    pub address: usize,
    /// Its length in bytes.
    pub len: usize,
    /// The mapped file, from its first byte on.
    pub file: Arc<File>,
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

/// The process as procfs shows it.
#[derive(Debug)]
struct Process {
    pagemap: File,
    memory: File,
}

impl Process {
    fn open() -> io::Result<Self> {
        Ok(Process {
            pagemap: File::open("/proc/self/pagemap")?,
            memory: File::open("/proc/self/mem")?,
        })
    }
}

/// A private mapping that is watched for pages of its own.
#[derive(Debug)]
pub(crate) struct PrivatePages {
    mapping: PrivateMapping,
    /// Opened when the device is made: later a sandbox may be in the way. If it
    /// is already then, the snapshot has to know.
    process: io::Result<Process>,
}

impl PrivatePages {
    pub(crate) fn new(mapping: PrivateMapping) -> Self {
        PrivatePages {
            mapping,
            process: Process::open(),
        }
    }

    /// How many pages hold something else than the file. Nobody may write to
    /// the mapping meanwhile.
    pub(crate) fn written(&self) -> io::Result<u64> {
        let process = match &self.process {
            Ok(process) => process,
            Err(error) => return Err(io::Error::new(error.kind(), error.to_string())),
        };
        let page = page_size()?;
        let entry = |address: usize| (address / page).saturating_mul(ENTRY);
        let from = entry(self.mapping.address);
        let end = entry(self.mapping.address.saturating_add(self.mapping.len));
        let mut left = end.saturating_sub(from);
        let mut pagemap = &process.pagemap;
        pagemap.seek(SeekFrom::Start(from as u64))?;
        let mut entries = vec![0; CHUNK.min(left)];
        let mut compared = [vec![0; page], vec![0; page]];
        let mut first = 0;
        let mut written = 0;
        while left > 0 {
            let chunk = CHUNK.min(left);
            pagemap.read_exact(&mut entries[..chunk])?;
            for index in own(&entries[..chunk]) {
                let offset = (first + index) * page;
                written += u64::from(self.differs(&process.memory, offset, &mut compared)?);
            }
            first += chunk / ENTRY;
            left -= chunk;
        }
        Ok(written)
    }

    /// Whether the page at `offset` is not as the file has it. Beyond its end a
    /// file's mapping is zero.
    fn differs(
        &self,
        memory: &File,
        offset: usize,
        [ours, files]: &mut [Vec<u8>; 2],
    ) -> io::Result<bool> {
        memory.read_exact_at(ours, (self.mapping.address + offset) as u64)?;
        let mut rest = &mut files[..];
        let mut at = offset as u64;
        while !rest.is_empty() {
            match self.mapping.file.read_at(rest, at) {
                Ok(0) => break,
                Ok(count) => {
                    at += count as u64;
                    rest = &mut rest[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        rest.fill(0);
        Ok(ours != files)
    }
}

/// Which of the pages are not the file's.
fn own(entries: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let (entries, _) = entries.as_chunks::<ENTRY>();
    let is_own = |bytes: &[u8; ENTRY]| {
        let entry = u64::from_ne_bytes(*bytes);
        entry & (PRESENT | SWAPPED) != 0 && entry & OF_FILE == 0
    };
    (0..)
        .zip(entries)
        .filter_map(move |(index, bytes)| is_own(bytes).then_some(index))
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
        assert_eq!(own(&bytes).collect::<Vec<_>>(), [2, 4, 6]);
    }

    #[test]
    fn a_map_that_cannot_be_read_is_an_error() {
        let empty = || tempfile::tempfile().unwrap();
        let pages = |process| PrivatePages {
            mapping: PrivateMapping {
                address: 0x1000,
                len: 0x1000,
                file: Arc::new(empty()),
            },
            process,
        };
        let closed = io::Error::from_raw_os_error(libc::EACCES);
        let error = pages(Err(closed)).written().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let short = Process {
            pagemap: empty(),
            memory: empty(),
        };
        pages(Ok(short)).written().unwrap_err();
    }
}
