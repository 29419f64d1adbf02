// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! The first room: from a descriptor chain to a request, from a status to an
//! answer. No I/O, no state.
//!
//! A request is a device-readable `le32 type` and a device-writable `le32 ret`
//! (virtio 1.4, 5.19.6). How these eight bytes are spread over descriptors is
//! the driver's choice (2.7.4), so both may be in pieces. What comes after them
//! in a chain is ignored, as long as the chain ends.

use std::fmt;
use std::ops::Deref;

use virtio_queue::DescriptorChain;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress, GuestMemory};

use crate::translate::Translate;

/// The only request type (`VIRTIO_PMEM_REQ_TYPE_FLUSH`).
pub const REQUEST_FLUSH: u32 = 0;

/// `ret` for what was written is durable.
pub const STATUS_OK: u32 = 0;

/// `ret` for anything else: the specification's -1.
pub const STATUS_ERROR: u32 = u32::MAX;

/// Length of an answer, in the used element.
const ANSWER_LEN: u32 = 4;

/// Size of `type`, and of `ret`, in bytes.
const FIELD: usize = 4;

/// Length of the longest chain that is read to its end. A driver needs two
/// descriptors, or eight if each holds a byte.
pub const CHAIN_MAX: usize = 16;

/// Why a chain is no flush request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// There is no readable descriptor at the chain's head.
    Empty,
    /// The chain loops, leaves its table, or is longer than [`CHAIN_MAX`].
    Endless,
    /// A readable descriptor follows a writable one.
    Order,
    /// Less than four readable bytes.
    ShortRequest,
    /// Less than four writable bytes.
    ShortStatus,
    /// An address is in no memory, or can't be translated.
    Unmapped,
    /// Another request type.
    UnknownType(u32),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Empty => f.write_str("empty descriptor chain"),
            Malformed::Endless => f.write_str("endless descriptor chain"),
            Malformed::Order => f.write_str("readable descriptor after a writable one"),
            Malformed::ShortRequest => f.write_str("request is shorter than 4 bytes"),
            Malformed::ShortStatus => f.write_str("status is shorter than 4 bytes"),
            Malformed::Unmapped => f.write_str("descriptor outside of memory"),
            Malformed::UnknownType(kind) => write!(f, "unknown request type {kind}"),
        }
    }
}

/// Where an answer goes: four writable bytes in up to four pieces.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StatusBuffer {
    pieces: [(GuestAddress, usize); FIELD],
    count: usize,
    filled: usize,
}

impl StatusBuffer {
    fn add(&mut self, address: GuestAddress, len: usize) {
        if let Some(piece) = self.pieces.get_mut(self.count) {
            *piece = (address, len);
            self.count += 1;
            self.filled += len;
        }
    }

    /// Writes `status` and returns the used length: 4, or 0 if the guest has
    /// no memory there.
    fn write<M: GuestMemory + ?Sized>(&self, memory: &M, status: u32) -> u32 {
        let bytes = status.to_le_bytes();
        let mut rest = bytes.as_slice();
        for (address, len) in self.pieces.iter().take(self.count) {
            let (piece, after) = rest.split_at(rest.len().min(*len));
            if memory.write_slice(piece, *address).is_err() {
                return 0;
            }
            rest = after;
        }
        ANSWER_LEN
    }
}

/// One popped chain, read and judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Request {
    /// The chain's head: the id of its used element.
    pub head: u16,
    /// None for a flush.
    pub malformed: Option<Malformed>,
    status: Option<StatusBuffer>,
}

impl Request {
    /// Reads a chain, to its end or to [`CHAIN_MAX`] descriptors.
    pub fn parse<M, T>(chain: &mut DescriptorChain<M>, translate: &T) -> Request
    where
        M: Deref,
        M::Target: GuestMemory,
        T: Translate + ?Sized,
    {
        let mut fields = Fields::default();
        let end = fields.collect(chain, translate);
        let status = (fields.status.filled == FIELD).then_some(fields.status);
        Request {
            head: chain.head_index(),
            malformed: end.and_then(|()| fields.judge()).err(),
            status,
        }
    }

    /// True if the request asks for a flush.
    pub fn is_flush(&self) -> bool {
        self.malformed.is_none()
    }

    /// Writes the answer and returns the length for the used element.
    /// `flushed` counts for a flush only; anything else has failed.
    pub fn answer<M: GuestMemory + ?Sized>(&self, memory: &M, flushed: bool) -> u32 {
        let status = if flushed && self.is_flush() {
            STATUS_OK
        } else {
            STATUS_ERROR
        };
        self.answer_status(memory, status)
    }

    pub(crate) fn answer_status<M: GuestMemory + ?Sized>(&self, memory: &M, status: u32) -> u32 {
        self.status.map_or(0, |buffer| buffer.write(memory, status))
    }
}

/// The two fields as they are put together from descriptors.
#[derive(Default)]
struct Fields {
    kind: [u8; FIELD],
    kind_filled: usize,
    readable: bool,
    writable: bool,
    status: StatusBuffer,
}

impl Fields {
    fn collect<M, T>(
        &mut self,
        chain: &mut DescriptorChain<M>,
        translate: &T,
    ) -> Result<(), Malformed>
    where
        M: Deref,
        M::Target: GuestMemory,
        T: Translate + ?Sized,
    {
        // The first fault is the one to name, but a status buffer behind it
        // still gets an answer.
        let mut fault = None;
        let mut goes_on = true;
        for _ in 0..CHAIN_MAX {
            let Some(descriptor) = chain.next() else {
                break;
            };
            goes_on = descriptor.has_next();
            let result = if descriptor.is_write_only() {
                self.add_writable(chain.memory(), &descriptor, translate)
            } else {
                self.add_readable(chain.memory(), &descriptor, translate)
            };
            fault = fault.or(result.err());
            if !goes_on {
                break;
            }
        }
        if !self.readable && !self.writable {
            return Err(Malformed::Empty);
        }
        if goes_on {
            return Err(Malformed::Endless);
        }
        fault.map_or(Ok(()), Err)
    }

    fn add_readable<M, T>(
        &mut self,
        memory: &M,
        descriptor: &Descriptor,
        translate: &T,
    ) -> Result<(), Malformed>
    where
        M: GuestMemory + ?Sized,
        T: Translate + ?Sized,
    {
        self.readable = true;
        if self.writable {
            return Err(Malformed::Order);
        }
        let field = self.kind.get_mut(self.kind_filled..).unwrap_or_default();
        let (len, address) = match used_part(descriptor, field.len(), translate)? {
            (0, _) => return Ok(()),
            part => part,
        };
        let field = field.get_mut(..len).unwrap_or_default();
        memory
            .read_slice(field, address)
            .map_err(|_| Malformed::Unmapped)?;
        self.kind_filled += len;
        Ok(())
    }

    fn add_writable<M, T>(
        &mut self,
        memory: &M,
        descriptor: &Descriptor,
        translate: &T,
    ) -> Result<(), Malformed>
    where
        M: GuestMemory + ?Sized,
        T: Translate + ?Sized,
    {
        self.writable = true;
        let (len, address) = match used_part(descriptor, FIELD - self.status.filled, translate)? {
            (0, _) => return Ok(()),
            part => part,
        };
        // No host sync for a request that can't be answered.
        let mut probe = [0; FIELD];
        memory
            .read_slice(probe.get_mut(..len).unwrap_or_default(), address)
            .map_err(|_| Malformed::Unmapped)?;
        self.status.add(address, len);
        Ok(())
    }

    fn judge(&self) -> Result<(), Malformed> {
        if self.kind_filled < FIELD {
            return Err(Malformed::ShortRequest);
        }
        if self.status.filled < FIELD {
            return Err(Malformed::ShortStatus);
        }
        match u32::from_le_bytes(self.kind) {
            REQUEST_FLUSH => Ok(()),
            kind => Err(Malformed::UnknownType(kind)),
        }
    }
}

/// Length and guest physical address of the descriptor's bytes that are part
/// of a field which still lacks `wanted` bytes.
fn used_part<T: Translate + ?Sized>(
    descriptor: &Descriptor,
    wanted: usize,
    translate: &T,
) -> Result<(usize, GuestAddress), Malformed> {
    let len = usize::try_from(descriptor.len()).map_or(wanted, |len| len.min(wanted));
    if len == 0 {
        return Ok((0, descriptor.addr()));
    }
    let bytes = u32::try_from(len).map_err(|_| Malformed::Unmapped)?;
    let address = translate
        .translate(descriptor.addr(), bytes)
        .map_err(|_| Malformed::Unmapped)?;
    Ok((len, address))
}
