// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The bad rings, by name.

use crate::hostile::GUARD;
use crate::hostile::ring::{Descriptor, INDIRECT, NEXT, PAGE, Ring, WRITE};

/// VIRTIO_PMEM_REQ_TYPE_FLUSH (virtio 1.4, 5.19.6).
const FLUSH: u32 = 0;

/// No machine has memory there, and no 52-bit CPU can have any.
const NOWHERE: u64 = 0x000f_ffff_ffff_f000;

/// Where the buffers are, in guest physical memory.
#[derive(Clone, Copy)]
pub(super) struct Addresses {
    pub(super) request: u64,
    pub(super) response: u64,
}

impl Addresses {
    /// Within the buffers' page, far from its ends and from each other.
    pub(super) const REQUEST: u16 = 512;
    /// The same.
    pub(super) const RESPONSE: u16 = 2560;
}

/// What a case may lead to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Expect {
    /// Answered with 0.
    Success,
    /// Answered, with success or not, or NEEDS_RESET.
    Answer,
    /// Answered without success, or NEEDS_RESET: nothing in it asks for a flush.
    Refusal,
}

macro_rules! cases {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal => $expect:ident,)+) => {
        /// A ring that the program can give a device.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Case {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Case {
            /// All of them, the proper ones first.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name on the command line and in reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What it is, in a line.
            pub fn about(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+).trim_ascii(),)+
                }
            }

            pub(super) fn expect(self) -> Expect {
                match self {
                    $(Self::$variant => Expect::$expect,)+
                }
            }
        }
    };
}

cases! {
    /// A proper flush.
    Good = "good" => Success,
    /// A flush cut off by a reset, then a proper flush.
    Reset = "reset" => Success,
    /// A proper flush in every chain the ring has room for, published at once.
    FullRing = "full-ring" => Success,
    /// The avail ring's head index is the queue's size.
    HeadOutOfRange = "head-out-of-range" => Refusal,
    /// The avail ring's head index is 0xffff.
    HeadMax = "head-max" => Refusal,
    /// avail.idx is one more than the queue's size.
    AvailJump = "avail-jump" => Refusal,
    /// avail.idx went backwards, from 0 to 0xffff.
    AvailBackwards = "avail-backwards" => Refusal,
    /// The first descriptor's next is itself.
    ChainSelfLoop = "chain-self-loop" => Refusal,
    /// Request, response, and from there back to the request.
    ChainLoop = "chain-loop" => Refusal,
    /// A circle of readable descriptors through the whole table.
    ChainEndless = "chain-endless" => Refusal,
    /// The request's next is the queue's size.
    NextOutOfRange = "next-out-of-range" => Refusal,
    /// The request is writable, the response readable.
    DirectionSwapped = "direction-swapped" => Refusal,
    /// Both are writable.
    RequestWritable = "request-writable" => Refusal,
    /// Both are readable.
    ResponseReadable = "response-readable" => Refusal,
    /// The response comes before the request.
    ResponseFirst = "response-first" => Refusal,
    /// A request without a response.
    RequestOnly = "request-only" => Refusal,
    /// A response without a request.
    ResponseOnly = "response-only" => Refusal,
    /// The request has 3 bytes.
    RequestShort = "request-short" => Refusal,
    /// The request has 0 bytes.
    RequestEmpty = "request-empty" => Refusal,
    /// The response has 3 bytes.
    ResponseShort = "response-short" => Refusal,
    /// The response has 0 bytes.
    ResponseEmpty = "response-empty" => Refusal,
    /// Request and response have 0 bytes.
    BothEmpty = "both-empty" => Refusal,
    /// The request lies where no memory is.
    RequestUnmapped = "request-unmapped" => Refusal,
    /// The response lies where no memory is.
    ResponseUnmapped = "response-unmapped" => Refusal,
    /// The response's end is beyond the last address.
    ResponseWraps = "response-wraps" => Refusal,
    /// The response says that it has almost 4 GiB.
    ResponseHuge = "response-huge" => Answer,
    /// Two more readable descriptors after the response.
    ExtraReadable = "extra-readable" => Answer,
    /// Two more writable descriptors after the response.
    ExtraWritable = "extra-writable" => Answer,
    /// A request type that does not exist.
    TypeUnknown = "type-unknown" => Refusal,
    /// The largest request type.
    TypeMax = "type-max" => Refusal,
    /// An indirect descriptor, which was not negotiated.
    Indirect = "indirect" => Refusal,
}

impl Case {
    /// The case of a name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|case| case.name() == name)
    }

    /// The request's type as the case has it.
    fn request_type(self) -> u32 {
        match self {
            Self::TypeUnknown => 1,
            Self::TypeMax => u32::MAX,
            _ => FLUSH,
        }
    }

    /// The buffers' page before the device sees it.
    pub(super) fn buffers(self) -> Box<[u8; PAGE]> {
        let mut page = Box::new([GUARD; PAGE]);
        let at = usize::from(Addresses::REQUEST);
        page[at..at + 4].copy_from_slice(&self.request_type().to_le_bytes());
        page
    }

    /// The ring for a queue of `size` descriptors.
    pub(super) fn ring(self, size: u16, addresses: Addresses) -> Ring {
        let mut request = Descriptor {
            address: addresses.request,
            len: 4,
            flags: NEXT,
            next: 1,
        };
        let mut response = Descriptor {
            address: addresses.response,
            len: 4,
            flags: WRITE,
            next: 0,
        };
        let extra = |index: u16, flags| Descriptor {
            address: addresses.request,
            len: 4,
            flags,
            next: index + 1,
        };
        let mut more = Vec::new();
        let mut avail = vec![0];
        let mut avail_idx = 1;
        let mut chains = 1;
        match self {
            Self::Good | Self::Reset | Self::TypeUnknown | Self::TypeMax => {}
            Self::FullRing => {
                chains = size / 2;
                avail_idx = chains;
                avail = (0..chains).map(|chain| chain * 2).collect();
                for chain in 1..chains {
                    more.push(Descriptor {
                        next: chain * 2 + 1,
                        ..request
                    });
                    more.push(response);
                }
            }
            Self::HeadOutOfRange => avail = vec![size],
            Self::HeadMax => avail = vec![u16::MAX],
            Self::AvailJump => avail_idx = size + 1,
            Self::AvailBackwards => avail_idx = u16::MAX,
            Self::ChainSelfLoop => request.next = 0,
            Self::ChainLoop => response.flags |= NEXT,
            Self::ChainEndless => {
                response = Descriptor { next: 2, ..request };
                more.extend((2..size).map(|index| Descriptor {
                    next: (index + 1) % size,
                    ..request
                }));
            }
            Self::NextOutOfRange => request.next = size,
            Self::DirectionSwapped => {
                request.flags |= WRITE;
                response.flags = 0;
            }
            Self::RequestWritable => request.flags |= WRITE,
            Self::ResponseReadable => response.flags = 0,
            Self::ResponseFirst => {
                avail = {
                    request = Descriptor {
                        flags: NEXT,
                        next: 1,
                        ..request
                    };
                    (request, response) = (
                        Descriptor {
                            flags: WRITE | NEXT,
                            next: 1,
                            ..response
                        },
                        Descriptor {
                            flags: 0,
                            next: 0,
                            ..request
                        },
                    );
                    vec![0]
                }
            }
            Self::RequestOnly => request.flags = 0,
            Self::ResponseOnly => avail = vec![1],
            Self::RequestShort => request.len = 3,
            Self::RequestEmpty => request.len = 0,
            Self::ResponseShort => response.len = 3,
            Self::ResponseEmpty => response.len = 0,
            Self::BothEmpty => {
                request.len = 0;
                response.len = 0;
            }
            Self::RequestUnmapped => request.address = NOWHERE,
            Self::ResponseUnmapped => response.address = NOWHERE,
            Self::ResponseWraps => response.address = u64::MAX - 1,
            // With the request just what 2.7.5 lets a chain have, so it is not refused for that.
            Self::ResponseHuge => response.len = u32::MAX - 4,
            Self::ExtraReadable | Self::ExtraWritable => {
                let flags = if self == Self::ExtraWritable {
                    WRITE
                } else {
                    0
                };
                response.flags |= NEXT;
                response.next = 2;
                more.push(extra(2, flags | NEXT));
                more.push(extra(3, flags));
            }
            Self::Indirect => request.flags = INDIRECT,
        }
        let mut descriptors = vec![request, response];
        descriptors.extend(more);
        Ring {
            descriptors,
            avail,
            avail_idx,
            buffers: self.buffers(),
            chains,
        }
    }
}

#[cfg(test)]
mod tests {
    use virtio_bindings::bindings::virtio_ring::VRING_DESC_F_WRITE;
    use virtio_queue::{Queue, QueueOwnedT, QueueT};
    use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryMmap};

    use super::*;

    const SIZE: u16 = 64;
    const RING: u64 = 0x10_0000;
    const BUFFERS: u64 = 0x20_0000;

    fn addresses() -> Addresses {
        Addresses {
            request: BUFFERS + u64::from(Addresses::REQUEST),
            response: BUFFERS + u64::from(Addresses::RESPONSE),
        }
    }

    /// What an independent implementation of the device side finds: per chain its head and
    /// its descriptors as (address, length, writable), or the error of the pop.
    type Chain = (u16, Vec<(u64, u32, bool)>);

    fn popped(case: Case) -> Result<Vec<Chain>, String> {
        let memory: GuestMemoryMmap =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x40_0000)]).unwrap();
        let ring = case.ring(SIZE, addresses());
        memory
            .write_slice(ring.encode().as_slice(), GuestAddress(RING))
            .unwrap();
        let mut queue = Queue::new(256).unwrap();
        queue.set_size(SIZE);
        let at = |offset: u64| Some(u32::try_from(RING + offset).unwrap());
        queue.set_desc_table_address(at(Ring::DESCRIPTORS), None);
        queue.set_avail_ring_address(at(Ring::AVAIL), None);
        queue.set_used_ring_address(at(Ring::USED), None);
        queue.set_ready(true);
        assert!(queue.is_valid(&memory), "{}", case.name());
        let chains = queue.iter(&memory).map_err(|error| format!("{error:?}"))?;
        Ok(chains
            .map(|chain| {
                let head = chain.head_index();
                let descriptors = chain
                    .map(|one| {
                        let writable = u32::from(one.flags()) & VRING_DESC_F_WRITE != 0;
                        (one.addr().raw_value(), one.len(), writable)
                    })
                    .collect();
                (head, descriptors)
            })
            .collect())
    }

    fn request() -> (u64, u32, bool) {
        (addresses().request, 4, false)
    }

    fn response() -> (u64, u32, bool) {
        (addresses().response, 4, true)
    }

    #[test]
    fn a_device_finds_a_proper_flush_in_the_good_ring() {
        assert_eq!(
            popped(Case::Good).unwrap(),
            [(0, vec![request(), response()])]
        );
    }

    #[test]
    fn a_full_ring_uses_every_descriptor_once() {
        let chains = popped(Case::FullRing).unwrap();
        let heads: Vec<u16> = chains.iter().map(|(head, _)| *head).collect();
        assert_eq!(heads, (0..SIZE).step_by(2).collect::<Vec<_>>());
        for (_, descriptors) in chains {
            assert_eq!(descriptors, [request(), response()]);
        }
    }

    #[test]
    fn index_cases_publish_the_bad_index() {
        for (case, head) in [(Case::HeadOutOfRange, SIZE), (Case::HeadMax, u16::MAX)] {
            assert_eq!(case.ring(SIZE, addresses()).avail, [head]);
        }
        popped(Case::AvailJump).unwrap_err();
        popped(Case::AvailBackwards).unwrap_err();
    }

    #[test]
    fn loops_come_back_and_the_endless_one_passes_every_descriptor() {
        let next = |case: Case, index: u16| {
            let ring = case.ring(SIZE, addresses());
            let one = ring.descriptors[usize::from(index)];
            (one.flags & NEXT != 0).then_some(one.next)
        };
        assert_eq!(next(Case::ChainSelfLoop, 0), Some(0));
        assert_eq!(next(Case::ChainLoop, 0), Some(1));
        assert_eq!(next(Case::ChainLoop, 1), Some(0));
        for index in 0..SIZE {
            assert_eq!(next(Case::ChainEndless, index), Some((index + 1) % SIZE));
        }
        assert_eq!(next(Case::NextOutOfRange, 0), Some(SIZE));
    }

    #[test]
    fn chains_have_the_directions_lengths_and_places_they_are_named_for() {
        let writable = |(address, len, _)| (address, len, true);
        let readable = |(address, len, _)| (address, len, false);
        let long = |(address, _, write), len| (address, len, write);
        let moved = |(_, len, write), address| (address, len, write);
        let (rq, rs) = (request(), response());
        for (case, expected) in [
            (Case::DirectionSwapped, vec![writable(rq), readable(rs)]),
            (Case::RequestWritable, vec![writable(rq), rs]),
            (Case::ResponseReadable, vec![rq, readable(rs)]),
            (Case::ResponseFirst, vec![rs, rq]),
            (Case::RequestOnly, vec![rq]),
            (Case::RequestShort, vec![long(rq, 3), rs]),
            (Case::RequestEmpty, vec![long(rq, 0), rs]),
            (Case::ResponseShort, vec![rq, long(rs, 3)]),
            (Case::ResponseEmpty, vec![rq, long(rs, 0)]),
            (Case::BothEmpty, vec![long(rq, 0), long(rs, 0)]),
            (Case::RequestUnmapped, vec![moved(rq, NOWHERE), rs]),
            (Case::ResponseUnmapped, vec![rq, moved(rs, NOWHERE)]),
            (Case::ResponseHuge, vec![rq, long(rs, u32::MAX - 4)]),
            (Case::ExtraReadable, vec![rq, rs, rq, rq]),
            (
                Case::ExtraWritable,
                vec![rq, rs, writable(rq), writable(rq)],
            ),
        ] {
            assert_eq!(popped(case).unwrap(), [(0, expected)], "{}", case.name());
        }
        assert_eq!(popped(Case::ResponseOnly).unwrap(), [(1, vec![rs])]);
    }

    #[test]
    fn only_type_cases_have_a_request_that_is_no_flush() {
        for case in Case::ALL {
            let at = usize::from(Addresses::REQUEST);
            let page = case.buffers();
            let flush = page[at..at + 4] == FLUSH.to_le_bytes();
            let wanted = !matches!(case, Case::TypeUnknown | Case::TypeMax);
            assert_eq!(flush, wanted, "{}", case.name());
        }
    }

    #[test]
    fn every_ring_fits_its_queue_whatever_the_size() {
        for case in Case::ALL {
            for size in [4, 8, 16, 32, SIZE] {
                let ring = case.ring(size, addresses());
                assert!(
                    ring.descriptors.len() <= usize::from(size),
                    "{}",
                    case.name()
                );
                assert!(ring.avail.len() <= usize::from(size), "{}", case.name());
            }
        }
    }

    #[test]
    fn names_are_found_again() {
        for case in Case::ALL {
            assert_eq!(Case::by_name(case.name()), Some(*case));
        }
        assert_eq!(Case::by_name("no-such-case"), None);
    }
}
