// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A page whose guest physical address is known (Documentation/admin-guide/mm/pagemap.rst),
//! and a window onto registers.

use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::ptr::{self, NonNull};
use std::sync::atomic::{Ordering, fence};

use nix::sys::mman::{MapFlags, ProtFlags, mlock, mmap, mmap_anonymous, munmap};

use crate::hostile::HostileError;
use crate::hostile::ring::PAGE;

/// A mapping that others than this program read and write: every access is volatile.
pub(super) struct Window {
    start: NonNull<u8>,
    len: usize,
}

/// The types that a register or ring field has.
pub(super) trait Word: Copy {}
impl Word for u8 {}
impl Word for u16 {}
impl Word for u32 {}

impl Window {
    /// Maps `len` bytes of `file` from `offset`, a multiple of the page size.
    pub(super) fn map(file: impl AsFd, offset: u64, len: usize) -> io::Result<Self> {
        let length = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        let offset = i64::try_from(offset).map_err(io::Error::other)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let start = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, file, offset) }?;
        Ok(Self {
            start: start.cast(),
            len,
        })
    }

    fn anonymous(len: usize) -> io::Result<Self> {
        let length = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let start = unsafe { mmap_anonymous(None, length, access, flags) }?;
        // SAFETY: the range is the mapping that was just made.
        unsafe { mlock(start, len) }?;
        Ok(Self {
            start: start.cast(),
            len,
        })
    }

    fn at<T: Word>(&self, offset: usize) -> NonNull<T> {
        let size = size_of::<T>();
        assert!(
            offset.is_multiple_of(size) && offset + size <= self.len,
            "offset {offset} of {} bytes",
            self.len
        );
        // SAFETY: the assertion keeps the whole word within the mapping.
        unsafe { self.start.byte_add(offset) }.cast()
    }

    /// Reads an aligned word.
    pub(super) fn read<T: Word>(&self, offset: usize) -> T {
        // SAFETY: `at` gives an aligned place within the mapping; words have no invalid value.
        unsafe { ptr::read_volatile(self.at::<T>(offset).as_ptr()) }
    }

    /// Writes an aligned word.
    pub(super) fn write<T: Word>(&self, offset: usize, value: T) {
        // SAFETY: `at` gives an aligned place within the mapping, which is writable.
        unsafe { ptr::write_volatile(self.at::<T>(offset).as_ptr(), value) }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: start and length are those of the mapping; no reference into it is ever made.
        // It can only fail for an address that is no mapping.
        let _ = unsafe { munmap(self.start.cast(), self.len) };
    }
}

/// A locked page of this program.
pub(super) struct Page {
    window: Window,
    address: u64,
}

impl Page {
    pub(super) fn new() -> Result<Self, HostileError> {
        // Locked pages may still be moved by compaction; a kernel without it has no such file.
        let _ = fs::write("/proc/sys/vm/compact_unevictable_allowed", "0");
        let window = Window::anonymous(PAGE).map_err(HostileError::io("lock a page of memory"))?;
        let address = physical(&window)?;
        Ok(Self { window, address })
    }

    /// Its guest physical address.
    pub(super) fn address(&self) -> u64 {
        self.address
    }

    /// Makes sure that the page is where it was: what a device did elsewhere is no result.
    pub(super) fn check_address(&self) -> Result<(), HostileError> {
        let now = physical(&self.window)?;
        if now == self.address {
            return Ok(());
        }
        Err(HostileError::Virtio(format!(
            "was given a page at {:#x} that the kernel moved to {now:#x}",
            self.address
        )))
    }

    pub(super) fn fill(&self, byte: u8) {
        self.copy(0, &[byte; PAGE]);
    }

    pub(super) fn copy(&self, offset: usize, bytes: &[u8]) {
        for (at, byte) in (offset..).zip(bytes) {
            self.window.write(at, *byte);
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        fence(Ordering::Acquire);
        (0..PAGE).map(|at| self.window.read(at)).collect()
    }

    /// Publishes an index: all that was written before is seen before it.
    pub(super) fn set_u16(&self, offset: usize, value: u16) {
        fence(Ordering::SeqCst);
        self.window.write(offset, value.to_le());
        fence(Ordering::SeqCst);
    }

    /// Reads an index: what is read afterwards is at least as new.
    pub(super) fn u16_at(&self, offset: usize) -> u16 {
        let value = u16::from_le(self.window.read(offset));
        fence(Ordering::Acquire);
        value
    }

    pub(super) fn u32_at(&self, offset: impl Into<usize>) -> u32 {
        u32::from_le(self.window.read(offset.into()))
    }
}

fn physical(window: &Window) -> Result<u64, HostileError> {
    const PRESENT: u64 = 1 << 63;
    const FRAME: u64 = (1 << 55) - 1;
    const PAGE_BYTES: u64 = 4096;
    let pagemap = "/proc/self/pagemap";
    let virtual_address = u64::try_from(window.start.addr().get()).unwrap_or(0);
    let mut entry = [0; 8];
    File::open(pagemap)
        .and_then(|file| file.read_exact_at(&mut entry, virtual_address / PAGE_BYTES * 8))
        .map_err(HostileError::io(format!("read {pagemap}")))?;
    let entry = u64::from_le_bytes(entry);
    // Without CAP_SYS_ADMIN the frame reads as 0.
    if entry & PRESENT == 0 || entry & FRAME == 0 {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        return Err(HostileError::io("learn physical addresses, only root can")(
            denied,
        ));
    }
    Ok((entry & FRAME) * PAGE_BYTES)
}
