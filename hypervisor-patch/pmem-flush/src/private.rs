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

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use vm_memory::bitmap::Bitmap;
use vm_memory::{Bytes, MmapRegion, VolatileMemory};

/// The memory of a private mapping: whole pages of this process.
pub trait PrivateMemory: Debug + Send + Sync {
    /// Address of its first byte.
    fn address(&self) -> usize;

    /// Its length in bytes.
    fn size(&self) -> usize;

    /// Reads what it holds from `offset` on.
    ///
    /// # Errors
    ///
    /// It is not as long as that.
    fn read_at(&self, buffer: &mut [u8], offset: usize) -> io::Result<()>;
}

impl<B: Bitmap + Debug + Send + Sync> PrivateMemory for MmapRegion<B> {
    fn address(&self) -> usize {
        self.as_ptr() as usize
    }

    fn size(&self) -> usize {
        MmapRegion::size(self)
    }

    fn read_at(&self, buffer: &mut [u8], offset: usize) -> io::Result<()> {
        self.as_volatile_slice()
            .read_slice(buffer, offset)
            .map_err(io::Error::other)
    }
}

/// A device's private mapping.
#[derive(Clone, Debug)]
pub struct PrivateMapping {
    /// What the guest has.
    pub memory: Arc<dyn PrivateMemory>,
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

/// A private mapping that is watched for pages of its own.
#[derive(Debug)]
pub(crate) struct PrivatePages {
    mapping: PrivateMapping,
    /// Opened when the device is made: later a sandbox may be in the way. None
    /// if something is already then: /proc is not mounted, or belongs to root as
    /// the process has been given capabilities (PR_SET_DUMPABLE in prctl(2)).
    pagemap: Option<File>,
}

impl PrivatePages {
    pub(crate) fn new(mapping: PrivateMapping) -> Self {
        PrivatePages {
            mapping,
            pagemap: File::open("/proc/self/pagemap").ok(),
        }
    }

    /// How many pages hold something else than the file. Nobody may write to
    /// the mapping meanwhile. Without a pagemap each page is compared.
    pub(crate) fn written(&self) -> io::Result<u64> {
        let page = page_size()?;
        let memory = &self.mapping.memory;
        let first = memory.address() / page;
        let pages = memory.size() / page;
        let mut entries = vec![0; CHUNK.min(pages * ENTRY)];
        let mut compared = [vec![0; page], vec![0; page]];
        let mut written = 0;
        let mut done = 0;
        while done < pages {
            let count = (pages - done).min(CHUNK / ENTRY);
            let entries = &mut entries[..count * ENTRY];
            if let Some(pagemap) = &self.pagemap {
                pagemap.read_exact_at(entries, ((first + done) * ENTRY) as u64)?;
            } else {
                for entry in entries.chunks_exact_mut(ENTRY) {
                    entry.copy_from_slice(&PRESENT.to_ne_bytes());
                }
            }
            for index in own(entries) {
                written += u64::from(self.differs((done + index) * page, &mut compared)?);
            }
            done += count;
        }
        Ok(written)
    }

    /// Whether the page at `offset` is not as the file has it. Beyond its end a
    /// file's mapping is zero.
    fn differs(&self, offset: usize, [ours, files]: &mut [Vec<u8>; 2]) -> io::Result<bool> {
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
        // Nobody may touch a page beyond the file's end that is not our own.
        if rest.len() == ours.len() && self.pagemap.is_none() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        rest.fill(0);
        self.mapping.memory.read_at(ours, offset)?;
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
    use vm_memory::FileOffset;

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

    const PAGES: usize = 3;

    /// A private mapping of PAGES pages, of a file that has `len` bytes by now.
    fn pages(len: usize, pagemap: Option<File>) -> (PrivatePages, Arc<MmapRegion>) {
        let page = page_size().expect("page size");
        let file = Arc::new(tempfile::tempfile().expect("file"));
        file.set_len((PAGES * page) as u64).expect("size");
        let offset = FileOffset::from_arc(file.clone(), 0);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let memory = MmapRegion::build(Some(offset), PAGES * page, protection, libc::MAP_PRIVATE);
        let memory = Arc::new(memory.expect("mapping"));
        file.set_len(len as u64).expect("size");
        let mapping = PrivateMapping {
            memory: memory.clone(),
            file,
        };
        (PrivatePages { mapping, pagemap }, memory)
    }

    fn write(memory: &MmapRegion, byte: u8, offset: usize) {
        let memory = memory.as_volatile_slice();
        memory.write_obj(byte, offset).expect("write");
    }

    #[test]
    fn without_a_map_each_page_is_compared() {
        let page = page_size().unwrap();
        let (pages, memory) = pages(PAGES * page, None);
        assert_eq!(pages.written().unwrap(), 0);
        write(&memory, 1, 0);
        write(&memory, 0, page);
        write(&memory, 1, PAGES * page - 1);
        assert_eq!(pages.written().unwrap(), 2);
    }

    #[test]
    fn without_a_map_nothing_beyond_the_files_end_is_touched() {
        let page = page_size().unwrap();
        let (unmapped, _memory) = pages(2 * page, None);
        let error = unmapped.written().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let (mapped, _memory) = pages(2 * page, Some(pagemap));
        assert_eq!(mapped.written().unwrap(), 0);
    }

    #[test]
    fn a_map_that_cannot_be_read_is_an_error() {
        let empty = tempfile::tempfile().unwrap();
        let (pages, _memory) = pages(0, Some(empty));
        pages.written().unwrap_err();
    }
}
