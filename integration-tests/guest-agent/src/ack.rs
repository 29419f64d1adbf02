// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The ack device: where the guest notes what it has synced, for the outside to see.
//!
//! The guest writes 512-byte records with O_DIRECT and never syncs them: the device is a
//! shared mapping of a host file, so the host reads a record as soon as it is stored. An area
//! (a device may hold several, each at a multiple of 4096 bytes):
//!
//! | offset | content |
//! |---|---|
//! | 0 | header, in 512 of 4096 bytes |
//! | 4096 | thread records: thread `t`, copy `c` at `4096 + (2t + c) * 512` |
//! | next multiple of 4096 | block records: block `b`, copy `c` at `slots + (2b + c) * 512` |
//!
//! Each record has two copies, written in turn, so that a guest stopped in the middle of one
//! leaves the one before it. The newer whole copy counts. All numbers are little endian, all
//! records end with the CRC-32 of the 508 bytes before.
//!
//! A block record is written after the sync that made the block durable returned 0. It
//! carries the counters of its thread; a thread record is written at the start, after each
//! error and at the end. A thread's counters are the highest of them all.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::pattern::Tag;

/// Bytes in a record.
pub const RECORD: usize = 512;

/// Areas and their parts start at multiples of this many bytes.
pub const ALIGN: u64 = 4096;

/// The version of this layout.
pub const VERSION: u32 = 1;

const RECORD_BYTES: u64 = 512;
const HEADER_MAGIC: u64 = u64::from_le_bytes(*b"pmflack1");
const BLOCK_MAGIC: u64 = u64::from_le_bytes(*b"pmflackb");
const THREAD_MAGIC: u64 = u64::from_le_bytes(*b"pmflackt");

/// The bytes of a record.
pub type Bytes = [u8; RECORD];

/// Why an ack area cannot be used.
#[derive(Debug, Error)]
pub enum AckError {
    /// No header there: no load has run, or the offset is wrong.
    #[error("no ack header at byte {0}: no load has started there")]
    NoHeader(u64),
    /// A header of another version.
    #[error("the ack header has version {0}, this program reads {VERSION}")]
    Version(u32),
    /// Its numbers make no sense.
    #[error("the ack header is for {threads} threads with {blocks_per_thread} blocks each: {why}")]
    Shape {
        /// Threads.
        threads: u32,
        /// Blocks each.
        blocks_per_thread: u64,
        /// What is wrong.
        why: &'static str,
    },
}

/// Where the data of a load lies.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// One after the other on a device or in a file, from [`Header::first_block`].
    Raw,
    /// Thread `t`'s in the file `load-<t>.dat` of a directory, each from the file's start.
    Files,
}

/// The start of an area: what the load is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// This run's number, different for each.
    pub run: u64,
    /// The seed of its blocks' content.
    pub seed: u64,
    /// Its threads.
    pub threads: u32,
    /// The blocks each of them owns: thread `t` has `t * blocks_per_thread ..`.
    pub blocks_per_thread: u64,
    /// Raw: block 0's place on the device, in blocks of 4096 bytes.
    pub first_block: u64,
    /// Where the data lies.
    pub layout: Layout,
}

/// A thread's counters.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Counters {
    /// Syncs that returned 0.
    pub fsyncs: u64,
    /// Writes, syncs and acks that failed.
    pub errors: u64,
    /// The errno of the last failure, 0 if there was none.
    pub last_errno: i32,
}

/// A block's last ack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BlockAck {
    /// The run.
    pub run: u64,
    /// The thread that owns the block.
    pub thread: u32,
    /// What the block holds.
    pub tag: Tag,
    /// The CRC-32 of the block's 4096 bytes.
    pub content_crc: u32,
    /// The guest's monotonic clock after the sync, in nanoseconds.
    pub time_ns: u64,
    /// The thread's counters then.
    pub counters: Counters,
}

/// A thread's record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ThreadAck {
    /// The run.
    pub run: u64,
    /// Which thread.
    pub thread: u32,
    /// Counts this thread's records, from 1.
    pub serial: u64,
    /// It has ended.
    pub ended: bool,
    /// Its counters.
    pub counters: Counters,
}

impl Header {
    /// Blocks of all threads.
    pub fn blocks(&self) -> u64 {
        u64::from(self.threads) * self.blocks_per_thread
    }

    /// Offset of a thread's record within the area; copy is 0 or 1.
    pub fn thread_at(&self, thread: u32, copy: u64) -> u64 {
        ALIGN + (2 * u64::from(thread) + (copy & 1)) * RECORD_BYTES
    }

    /// Offset of a block's record within the area; copy is 0 or 1.
    pub fn block_at(&self, block: u64, copy: u64) -> u64 {
        let slots = self.thread_at(self.threads, 0).next_multiple_of(ALIGN);
        slots + (2 * block + (copy & 1)) * RECORD_BYTES
    }

    /// Bytes in the whole area.
    pub fn area(&self) -> u64 {
        self.block_at(self.blocks(), 0).next_multiple_of(ALIGN)
    }

    /// Checks that the numbers make sense together.
    ///
    /// # Errors
    ///
    /// [`AckError::Shape`]: no threads or blocks, or so many that offsets overflow.
    pub fn check(&self) -> Result<(), AckError> {
        let wrong = |why| {
            Err(AckError::Shape {
                threads: self.threads,
                blocks_per_thread: self.blocks_per_thread,
                why,
            })
        };
        if self.threads == 0 || self.blocks_per_thread == 0 {
            return wrong("both must be at least 1");
        }
        if self.threads > 4096 {
            return wrong("at most 4096 threads");
        }
        let most = 1 << 40;
        if self.blocks_per_thread > most || self.first_block > most || self.blocks() > most {
            return wrong("at most 2^40 blocks");
        }
        Ok(())
    }

    /// Its record.
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::new(HEADER_MAGIC);
        writer.u32(VERSION);
        writer.u32(match self.layout {
            Layout::Raw => 0,
            Layout::Files => 1,
        });
        writer.u64(self.run);
        writer.u64(self.seed);
        writer.u32(self.threads);
        writer.u64(self.blocks_per_thread);
        writer.u64(self.first_block);
        writer.finish()
    }

    /// Reads it from the area at byte `at` of its device (named in the error only).
    ///
    /// # Errors
    ///
    /// No whole header is there, it is of another version, or its numbers make no sense.
    pub fn decode(bytes: &Bytes, at: u64) -> Result<Self, AckError> {
        let mut reader = Reader::open(bytes, HEADER_MAGIC).ok_or(AckError::NoHeader(at))?;
        let version = reader.u32();
        if version != VERSION {
            return Err(AckError::Version(version));
        }
        let layout = match reader.u32() {
            0 => Layout::Raw,
            1 => Layout::Files,
            _ => return Err(AckError::NoHeader(at)),
        };
        let header = Self {
            layout,
            run: reader.u64(),
            seed: reader.u64(),
            threads: reader.u32(),
            blocks_per_thread: reader.u64(),
            first_block: reader.u64(),
        };
        header.check()?;
        Ok(header)
    }
}

impl BlockAck {
    /// Its record.
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::new(BLOCK_MAGIC);
        writer.u64(self.run);
        writer.u32(self.thread);
        writer.u64(self.tag.seed);
        writer.u64(self.tag.block);
        writer.u64(self.tag.seq);
        writer.u32(self.content_crc);
        writer.u64(self.time_ns);
        writer.counters(self.counters);
        writer.finish()
    }

    /// Reads it; `None` if it is not whole.
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let mut reader = Reader::open(bytes, BLOCK_MAGIC)?;
        Some(Self {
            run: reader.u64(),
            thread: reader.u32(),
            tag: Tag {
                seed: reader.u64(),
                block: reader.u64(),
                seq: reader.u64(),
            },
            content_crc: reader.u32(),
            time_ns: reader.u64(),
            counters: reader.counters(),
        })
    }
}

impl ThreadAck {
    /// Its record.
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::new(THREAD_MAGIC);
        writer.u64(self.run);
        writer.u32(self.thread);
        writer.u64(self.serial);
        writer.u32(u32::from(self.ended));
        writer.counters(self.counters);
        writer.finish()
    }

    /// Reads it; `None` if it is not whole.
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let mut reader = Reader::open(bytes, THREAD_MAGIC)?;
        Some(Self {
            run: reader.u64(),
            thread: reader.u32(),
            serial: reader.u64(),
            ended: reader.u32() != 0,
            counters: reader.counters(),
        })
    }
}

const SUM_AT: usize = RECORD - 4;

struct Writer {
    bytes: Bytes,
    at: usize,
}

impl Writer {
    fn new(magic: u64) -> Self {
        let mut writer = Self {
            bytes: [0; RECORD],
            at: 0,
        };
        writer.u64(magic);
        writer
    }

    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.bytes[self.at..self.at + N].copy_from_slice(&bytes);
        self.at += N;
    }

    fn u32(&mut self, value: u32) {
        self.put(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.put(value.to_le_bytes());
    }

    fn counters(&mut self, counters: Counters) {
        self.u64(counters.fsyncs);
        self.u64(counters.errors);
        self.put(counters.last_errno.to_le_bytes());
    }

    fn finish(mut self) -> Bytes {
        let sum = crc32fast::hash(&self.bytes[..SUM_AT]);
        self.bytes[SUM_AT..].copy_from_slice(&sum.to_le_bytes());
        self.bytes
    }
}

struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    fn open(bytes: &'a Bytes, magic: u64) -> Option<Self> {
        let mut reader = Self { bytes, at: SUM_AT };
        let sum = reader.u32();
        reader.at = 0;
        let whole = reader.u64() == magic && sum == crc32fast::hash(&bytes[..SUM_AT]);
        whole.then_some(reader)
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        bytes
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn counters(&mut self) -> Counters {
        Counters {
            fsyncs: self.u64(),
            errors: self.u64(),
            last_errno: i32::from_le_bytes(self.take()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    fn header() -> Header {
        Header {
            run: 5,
            seed: 6,
            threads: 3,
            blocks_per_thread: 10,
            first_block: 7,
            layout: Layout::Files,
        }
    }

    fn block() -> BlockAck {
        BlockAck {
            run: 5,
            thread: 2,
            tag: Tag {
                seed: 6,
                block: 29,
                seq: 4,
            },
            content_crc: 0xdead_beef,
            time_ns: 12,
            counters: Counters {
                fsyncs: 9,
                errors: 1,
                last_errno: -5,
            },
        }
    }

    #[test]
    fn records_come_back_as_they_were() {
        let thread = ThreadAck {
            run: 5,
            thread: 1,
            serial: 3,
            ended: true,
            counters: block().counters,
        };
        assert_eq!(Header::decode(&header().encode(), 0).unwrap(), header());
        assert_eq!(BlockAck::decode(&block().encode()), Some(block()));
        assert_eq!(ThreadAck::decode(&thread.encode()), Some(thread));
    }

    #[test]
    fn a_record_with_any_flipped_bit_is_not_whole() {
        for at in 0..RECORD * 8 {
            let mut bytes = block().encode();
            bytes[at / 8] ^= 1 << (at % 8);
            assert_eq!(BlockAck::decode(&bytes), None, "bit {at}");
        }
    }

    #[test]
    fn a_record_of_one_kind_is_not_another() {
        assert_eq!(ThreadAck::decode(&block().encode()), None);
        assert!(matches!(
            Header::decode(&block().encode(), 8192),
            Err(AckError::NoHeader(8192))
        ));
    }

    #[test]
    fn parts_do_not_overlap_and_end_within_the_area() {
        let header = header();
        let span = |at: u64| at..at + RECORD_BYTES;
        let mut spans: Vec<Range<u64>> = vec![span(0)];
        for copy in 0..2 {
            spans.extend((0..header.threads).map(|t| span(header.thread_at(t, copy))));
            spans.extend((0..header.blocks()).map(|b| span(header.block_at(b, copy))));
        }
        spans.sort_by_key(|span| span.start);
        assert!(spans.windows(2).all(|two| two[0].end <= two[1].start));
        assert!(spans.last().is_some_and(|last| last.end <= header.area()));
        assert_eq!(header.area() % ALIGN, 0);
    }

    #[test]
    fn a_header_from_a_hostile_file_cannot_overflow() {
        let huge = Header {
            threads: 4096,
            blocks_per_thread: u64::MAX,
            ..header()
        };
        assert!(matches!(
            Header::decode(&huge.encode(), 0),
            Err(AckError::Shape { .. })
        ));
    }
}
