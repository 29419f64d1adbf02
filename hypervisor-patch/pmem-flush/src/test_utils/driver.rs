// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! The guest's half of a split virtqueue, well-behaved or not.

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::protocol::REQUEST_FLUSH;

/// Size of the guest's memory, from address 0.
pub const MEMORY_SIZE: usize = 0x4_0000;

const TABLE: u64 = 0x1000;
const AVAIL: u64 = 0x8000;
const USED: u64 = 0xa000;

/// Where requests are: sixteen bytes for each head.
pub const BUFFERS: u64 = 0x1_0000;

/// Offset of a request's status in its sixteen bytes.
pub const STATUS_OFFSET: u64 = 8;

/// What a status holds before it is answered.
pub const PENDING: u32 = 0x5a5a_5a5a;

/// `VIRTQ_DESC_F_NEXT`.
pub const NEXT: u16 = 1;
/// `VIRTQ_DESC_F_WRITE`.
pub const WRITE: u16 = 2;

/// A descriptor: address, length, flags, next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Desc(pub u64, pub u32, pub u16, pub u16);

/// A driver that publishes what it is told to. Requests use the descriptors
/// `2 * n` and `2 * n + 1`.
#[derive(Debug)]
pub struct GuestDriver {
    memory: GuestMemoryMmap,
    size: u16,
    avail: u16,
    seen: u16,
}

impl GuestDriver {
    /// A driver with a queue of `size` descriptors, at most 1024.
    pub fn new(size: u16) -> Self {
        let ranges = [(GuestAddress(0), MEMORY_SIZE)];
        let memory = GuestMemoryMmap::from_ranges(&ranges).expect("guest memory");
        Self::with_memory(memory, size)
    }

    /// A driver in `memory`, which reaches to [`MEMORY_SIZE`].
    pub fn with_memory(memory: GuestMemoryMmap, size: u16) -> Self {
        GuestDriver {
            memory,
            size,
            avail: 0,
            seen: 0,
        }
    }

    /// The guest's memory.
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// How many requests fit into the descriptor table.
    pub fn capacity(&self) -> u16 {
        self.size / 2
    }

    /// The queue as a transport sets it up, with both indices from `used.idx`.
    pub fn queue(&self) -> Queue {
        let mut queue = Queue::new(self.size).expect("queue size");
        queue.set_size(self.size);
        queue.set_desc_table_address(Some(u32::try_from(TABLE).expect("low")), Some(0));
        queue.set_avail_ring_address(Some(u32::try_from(AVAIL).expect("low")), Some(0));
        queue.set_used_ring_address(Some(u32::try_from(USED).expect("low")), Some(0));
        queue.set_next_avail(self.used_index());
        queue.set_next_used(self.used_index());
        queue.set_ready(true);
        queue
    }

    /// Forgets everything, as a driver does with a reset.
    pub fn reset(&mut self) {
        self.avail = 0;
        self.seen = 0;
        self.set_avail_index(0);
        self.write(USED + 2, &[0, 0]);
    }

    fn write(&self, address: u64, bytes: &[u8]) {
        self.memory
            .write_slice(bytes, GuestAddress(address))
            .expect("guest memory");
    }

    fn read<const N: usize>(&self, address: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.memory
            .read_slice(&mut bytes, GuestAddress(address))
            .expect("guest memory");
        bytes
    }

    /// Writes a descriptor into the table.
    pub fn set_desc(&self, index: u16, desc: Desc) {
        self.set_desc_at(TABLE, index, desc);
    }

    /// Writes a descriptor into a table of its own, an indirect one.
    pub fn set_desc_at(&self, table: u64, index: u16, desc: Desc) {
        let Desc(address, len, flags, next) = desc;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        self.write(table + 16 * u64::from(index), &bytes);
    }

    /// Address of the request whose chain starts at `head`.
    pub fn buffer(head: u16) -> u64 {
        BUFFERS + 16 * u64::from(head)
    }

    /// Writes a request's type and its pending status.
    pub fn set_request(&self, head: u16, kind: u32) {
        self.write(Self::buffer(head), &kind.to_le_bytes());
        self.set_status(head, PENDING);
    }

    /// Writes a request's status.
    pub fn set_status(&self, head: u16, status: u32) {
        self.write(Self::buffer(head) + STATUS_OFFSET, &status.to_le_bytes());
    }

    /// Builds the usual two-descriptor chain for request `n`; returns its head.
    pub fn build(&self, n: u16, kind: u32) -> u16 {
        let head = 2 * (n % self.capacity());
        self.set_request(head, kind);
        let buffer = Self::buffer(head);
        self.set_desc(head, Desc(buffer, 4, NEXT, head + 1));
        self.set_desc(head + 1, Desc(buffer + STATUS_OFFSET, 4, WRITE, 0));
        head
    }

    /// Publishes a head, whatever it is.
    pub fn publish(&mut self, head: u16) {
        let slot = u64::from(self.avail % self.size);
        self.write(AVAIL + 4 + 2 * slot, &head.to_le_bytes());
        self.set_avail_index(self.avail.wrapping_add(1));
    }

    /// Moves `avail.idx`, whatever is in the ring.
    pub fn set_avail_index(&mut self, index: u16) {
        self.avail = index;
        self.write(AVAIL + 2, &index.to_le_bytes());
    }

    /// The driver's `avail.idx`.
    pub fn avail_index(&self) -> u16 {
        self.avail
    }

    /// Builds and publishes flush `n`; returns its head.
    pub fn flush(&mut self, n: u16) -> u16 {
        let head = self.build(n, REQUEST_FLUSH);
        self.publish(head);
        head
    }

    /// The device's `used.idx`.
    pub fn used_index(&self) -> u16 {
        u16::from_le_bytes(self.read(USED + 2))
    }

    /// The used elements that are new since the last call: id and length.
    pub fn take_used(&mut self) -> Vec<(u32, u32)> {
        let mut used = Vec::new();
        while let Some(element) = self.next_used() {
            used.push(element);
        }
        used
    }

    /// The next used element, if there is one.
    pub fn next_used(&mut self) -> Option<(u32, u32)> {
        if self.seen == self.used_index() {
            return None;
        }
        let at = USED + 4 + 8 * u64::from(self.seen % self.size);
        self.seen = self.seen.wrapping_add(1);
        let id = u32::from_le_bytes(self.read(at));
        Some((id, u32::from_le_bytes(self.read(at + 4))))
    }

    /// A request's status.
    pub fn status(&self, head: u16) -> u32 {
        u32::from_le_bytes(self.read(Self::buffer(head) + STATUS_OFFSET))
    }
}
