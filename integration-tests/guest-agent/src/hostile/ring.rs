// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A split virtqueue in one page (virtio 1.4, 2.7), as bytes that a test can look at.

/// Bytes of the page that ring or buffers have.
pub(super) const PAGE: usize = 4096;

pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;

/// One descriptor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Descriptor {
    pub(super) address: u64,
    pub(super) len: u32,
    pub(super) flags: u16,
    pub(super) next: u16,
}

/// What the driver puts into memory before it kicks.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    /// The table, from index 0.
    pub(super) descriptors: Vec<Descriptor>,
    /// The avail ring, from entry 0.
    pub(super) avail: Vec<u16>,
    /// avail.idx.
    pub(super) avail_idx: u16,
    /// The buffers' page.
    pub(super) buffers: Box<[u8; PAGE]>,
    /// Used entries that answer all of it.
    pub(super) chains: u16,
}

impl Ring {
    /// The largest size whose three parts fit into one page at these places.
    pub(super) const MAX_SIZE: u16 = 64;
    /// The longest chain of any case needs this many descriptors.
    pub(super) const MIN_SIZE: u16 = 4;
    /// 16 bytes each.
    pub(super) const DESCRIPTORS: u64 = 0;
    /// flags, idx, 2 bytes per entry, used_event.
    pub(super) const AVAIL: u64 = 2048;
    /// flags, idx, 8 bytes per entry, avail_event.
    pub(super) const USED: u64 = 3072;

    const AVAIL_AT: usize = 2048;
    pub(super) const AVAIL_IDX: usize = Self::AVAIL_AT + 2;
    pub(super) const USED_AT: usize = 3072;

    /// The page's bytes; the used ring is all zeros.
    pub(super) fn encode(&self) -> Box<[u8; PAGE]> {
        let mut page = Box::new([0; PAGE]);
        for (place, descriptor) in page.chunks_exact_mut(16).zip(&self.descriptors) {
            place[..8].copy_from_slice(&descriptor.address.to_le_bytes());
            place[8..12].copy_from_slice(&descriptor.len.to_le_bytes());
            place[12..14].copy_from_slice(&descriptor.flags.to_le_bytes());
            place[14..].copy_from_slice(&descriptor.next.to_le_bytes());
        }
        page[Self::AVAIL_IDX..Self::AVAIL_IDX + 2].copy_from_slice(&self.avail_idx.to_le_bytes());
        let entries = page[Self::AVAIL_IDX + 2..Self::USED_AT].chunks_exact_mut(2);
        for (place, head) in entries.zip(&self.avail) {
            place.copy_from_slice(&head.to_le_bytes());
        }
        page
    }

    /// Tells whether the ring lets the device write to this address.
    pub(super) fn writable_holds(&self, address: u64) -> bool {
        self.descriptors.iter().any(|descriptor| {
            descriptor.flags & WRITE != 0
                && address >= descriptor.address
                && address - descriptor.address < u64::from(descriptor.len)
        })
    }
}
