// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Holds the data of a load against its ack area.
//!
//! The rule: a block that was acked holds its acked content, or that of a later write to it.
//! A later write need not be acked (it was under way) and need not be whole.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ack::{AckError, BlockAck, Bytes, Counters, Header, Layout, RECORD, ThreadAck};
use crate::pattern::{self, BLOCK, Block, Tag};

/// At most this many bad blocks are listed one by one; all are counted.
const LISTED: usize = 256;

/// Why a verification could not be done.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// A file cannot be read.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// Open, or read at which byte.
        what: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The ack area is not usable.
    #[error("{}: {source}", path.display())]
    Ack {
        /// The ack device's file.
        path: PathBuf,
        /// Why.
        source: AckError,
    },
    /// The load wrote to files, the data is no directory, or the other way round.
    #[error("the data {} does not fit: the load wrote {wanted}", path.display())]
    Kind {
        /// The data.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
}

/// What is wrong with a block.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// It holds nothing of the load: the acked write and all before it are gone.
    Lost,
    /// It holds, as a whole, an older write.
    Stale,
    /// It holds pieces that are neither of the acked nor of a later write.
    Torn,
    /// It holds another block's content, or another load's.
    Misplaced,
    /// Both copies of its ack record are damaged: what was acked is unknown.
    AckDamaged,
    /// The ack record contradicts the header or itself.
    AckWrong,
}

/// A block that breaks the rule.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BadBlock {
    /// Its number in the load.
    pub block: u64,
    /// The thread that owns it.
    pub thread: u64,
    /// The acked sequence number, if known.
    pub acked: Option<u64>,
    /// The sequence number that most of its whole sectors have, if any has one.
    pub found: Option<u64>,
    /// What is wrong.
    pub fault: Fault,
}

/// A thread's counters as the ack area has them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ThreadCounters {
    /// Which thread.
    pub thread: u32,
    /// It has said that it ended.
    pub ended: bool,
    /// Its counters.
    pub counters: Counters,
}

/// What a verification found.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Report {
    /// The run's number.
    pub run: u64,
    /// The load's seed.
    pub seed: u64,
    /// Blocks of the load.
    pub blocks: u64,
    /// Blocks with an ack.
    pub acked: u64,
    /// Acked writes, all blocks: the sum of the acked sequence numbers.
    pub acked_writes: u64,
    /// Blocks that hold exactly the acked content.
    pub exact: u64,
    /// Blocks that hold, as a whole, a later write.
    pub newer: u64,
    /// Blocks with a later write half done: a CPU was stopped or power was cut in it.
    pub overwriting: u64,
    /// Blocks that break the rule.
    pub bad: u64,
    /// Syncs that returned 0, all threads.
    pub fsyncs: u64,
    /// Errors, all threads.
    pub errors: u64,
    /// The first bad blocks, one by one.
    pub bad_blocks: Vec<BadBlock>,
    /// Each thread.
    pub threads: Vec<ThreadCounters>,
}

impl Report {
    /// Every acked block holds its acked content or a later one, and there was at least one.
    pub fn holds(&self) -> bool {
        self.bad == 0 && self.acked > 0
    }
}

/// Verifies `data` (a device, an image file, or the directory of the load's files) against
/// the ack area at byte `ack_offset` of `ack`.
///
/// # Errors
///
/// A file cannot be read or the area has no usable header. Data that breaks the rule is no
/// error: it is in the report. A data file that is missing or short holds nothing: its acked
/// blocks are lost.
pub fn verify(data: &Path, ack: &Path, ack_offset: u64) -> Result<Report, VerifyError> {
    let ack_file = open(ack)?;
    let mut bytes: Bytes = [0; RECORD];
    read_at(&ack_file, ack, &mut bytes, ack_offset)?;
    let header = Header::decode(&bytes, ack_offset).map_err(|source| VerifyError::Ack {
        path: ack.to_owned(),
        source,
    })?;
    let source = Source::open(data, &header)?;
    let mut report = Report {
        run: header.run,
        seed: header.seed,
        blocks: header.blocks(),
        ..Report::default()
    };
    let mut threads = read_threads(&header, &ack_file, ack, ack_offset)?;

    let mut block_bytes: Box<Block> = Box::new([0; BLOCK]);
    for block in 0..header.blocks() {
        let mut copies: [Bytes; 2] = [[0; RECORD]; 2];
        for (copy, bytes) in (0..).zip(&mut copies) {
            read_at(
                &ack_file,
                ack,
                bytes,
                ack_offset + header.block_at(block, copy),
            )?;
        }
        let thread = block / header.blocks_per_thread;
        let acked = match last_ack(&header, block, &copies) {
            LastAck::Never => continue,
            LastAck::Known(acked) => acked,
            LastAck::Bad(fault) => {
                report.add_bad(BadBlock {
                    block,
                    thread,
                    acked: None,
                    found: None,
                    fault,
                });
                continue;
            }
        };
        report.acked += 1;
        report.acked_writes += acked.tag.seq;
        let counters = usize::try_from(thread)
            .ok()
            .and_then(|thread| threads.get_mut(thread));
        if let Some(counters) = counters {
            counters.counters = counters.counters.max(acked.counters);
        }
        source.read(block, &mut block_bytes)?;
        match judge(&block_bytes, acked.tag) {
            Verdict::Exact => report.exact += 1,
            Verdict::Newer => report.newer += 1,
            Verdict::Overwriting => report.overwriting += 1,
            Verdict::Bad(fault, found) => report.add_bad(BadBlock {
                block,
                thread,
                acked: Some(acked.tag.seq),
                found,
                fault,
            }),
        }
    }
    report.fsyncs = threads.iter().map(|thread| thread.counters.fsyncs).sum();
    report.errors = threads.iter().map(|thread| thread.counters.errors).sum();
    report.threads = threads;
    Ok(report)
}

impl Report {
    fn add_bad(&mut self, block: BadBlock) {
        self.bad += 1;
        if self.bad_blocks.len() < LISTED {
            self.bad_blocks.push(block);
        }
    }
}

enum LastAck {
    Never,
    Known(BlockAck),
    Bad(Fault),
}

/// Reads both copies of a block's ack record. A copy that is all zeros was never written; one
/// that is damaged was being written, which leaves the other one.
fn last_ack(header: &Header, block: u64, copies: &[Bytes; 2]) -> LastAck {
    let newest = copies
        .iter()
        .filter_map(BlockAck::decode)
        .max_by_key(|ack| ack.tag.seq);
    let Some(ack) = newest else {
        let damaged = copies
            .iter()
            .filter(|copy| copy.iter().any(|&byte| byte != 0))
            .count();
        // One damaged copy beside an untouched one: the first ack was under way.
        return if damaged < 2 {
            LastAck::Never
        } else {
            LastAck::Bad(Fault::AckDamaged)
        };
    };
    let fits = ack.run == header.run
        && ack.tag.seed == header.seed
        && ack.tag.block == block
        && u64::from(ack.thread) == block / header.blocks_per_thread
        && ack.content_crc == crc32fast::hash(pattern::content(ack.tag).as_slice());
    if fits {
        LastAck::Known(ack)
    } else {
        LastAck::Bad(Fault::AckWrong)
    }
}

enum Verdict {
    Exact,
    Newer,
    Overwriting,
    Bad(Fault, Option<u64>),
}

/// Judges a block whose last ack was for `acked`.
fn judge(block: &Block, acked: Tag) -> Verdict {
    if *pattern::content(acked) == *block {
        return Verdict::Exact;
    }
    let mine = |tag: &Tag| tag.seed == acked.seed && tag.block == acked.block;
    if let Some(tag) = pattern::tag(block) {
        return match tag {
            tag if !mine(&tag) => Verdict::Bad(Fault::Misplaced, Some(tag.seq)),
            tag if tag.seq > acked.seq => Verdict::Newer,
            tag => Verdict::Bad(Fault::Stale, Some(tag.seq)),
        };
    }
    let found: Vec<Tag> = pattern::sectors(block).into_iter().flatten().collect();
    let most = found
        .iter()
        .max_by_key(|tag| found.iter().filter(|other| other == tag).count())
        .map(|tag| tag.seq);
    if found.iter().any(|tag| !mine(tag)) {
        return Verdict::Bad(Fault::Misplaced, most);
    }
    let mut allowed: Vec<Tag> = found
        .iter()
        .filter(|tag| tag.seq >= acked.seq)
        .copied()
        .collect();
    // The acked write itself and the one that follows it may show in no whole sector.
    allowed.push(acked);
    allowed.push(Tag {
        seq: acked.seq.saturating_add(1),
        ..acked
    });
    allowed.sort_unstable();
    allowed.dedup();
    if pattern::made_of(block, &allowed) {
        Verdict::Overwriting
    } else if found.is_empty() {
        Verdict::Bad(Fault::Lost, None)
    } else {
        Verdict::Bad(Fault::Torn, most)
    }
}

fn read_threads(
    header: &Header,
    file: &File,
    path: &Path,
    ack_offset: u64,
) -> Result<Vec<ThreadCounters>, VerifyError> {
    let mut threads = Vec::new();
    for thread in 0..header.threads {
        let mut counters = ThreadCounters {
            thread,
            ..ThreadCounters::default()
        };
        let mut newest = 0;
        for copy in 0..2 {
            let mut bytes: Bytes = [0; RECORD];
            read_at(
                file,
                path,
                &mut bytes,
                ack_offset + header.thread_at(thread, copy),
            )?;
            let ack = ThreadAck::decode(&bytes)
                .filter(|ack| ack.run == header.run && ack.thread == thread);
            if let Some(ack) = ack.filter(|ack| ack.serial > newest) {
                newest = ack.serial;
                counters.ended = ack.ended;
                counters.counters = ack.counters;
            }
        }
        threads.push(counters);
    }
    Ok(threads)
}

/// Where the data is read from.
enum Source {
    Raw {
        file: File,
        path: PathBuf,
        first_block: u64,
    },
    Files {
        files: Vec<Option<File>>,
        dir: PathBuf,
        blocks_per_thread: u64,
    },
}

/// The name of a thread's data file.
pub fn file_name(thread: u64) -> String {
    format!("load-{thread}.dat")
}

impl Source {
    fn open(data: &Path, header: &Header) -> Result<Self, VerifyError> {
        let is_dir = fs::metadata(data)
            .map_err(|source| VerifyError::Io {
                what: "open".to_owned(),
                path: data.to_owned(),
                source,
            })?
            .is_dir();
        let kind = |wanted| VerifyError::Kind {
            path: data.to_owned(),
            wanted,
        };
        match header.layout {
            Layout::Raw if is_dir => Err(kind("on a device, give the device or its image file")),
            Layout::Files if !is_dir => Err(kind("in files, give their directory")),
            Layout::Raw => Ok(Self::Raw {
                file: open(data)?,
                path: data.to_owned(),
                first_block: header.first_block,
            }),
            Layout::Files => {
                let mut files = Vec::new();
                for thread in 0..u64::from(header.threads) {
                    let path = data.join(file_name(thread));
                    files.push(match File::open(&path) {
                        Ok(file) => Some(file),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                        Err(source) => {
                            return Err(VerifyError::Io {
                                what: "open".to_owned(),
                                path,
                                source,
                            });
                        }
                    });
                }
                Ok(Self::Files {
                    files,
                    dir: data.to_owned(),
                    blocks_per_thread: header.blocks_per_thread,
                })
            }
        }
    }

    /// Reads a block; what lies beyond the end reads as zeros.
    fn read(&self, block: u64, bytes: &mut Block) -> Result<(), VerifyError> {
        const STEP: u64 = 4096;
        match self {
            Self::Raw {
                file,
                path,
                first_block,
            } => read_at(file, path, bytes, (first_block + block) * STEP),
            Self::Files {
                files,
                dir,
                blocks_per_thread,
            } => {
                let thread = block / blocks_per_thread;
                let file = usize::try_from(thread)
                    .ok()
                    .and_then(|thread| files.get(thread))
                    .and_then(Option::as_ref);
                match file {
                    Some(file) => {
                        let at = block % blocks_per_thread * STEP;
                        read_at(file, &dir.join(file_name(thread)), bytes, at)
                    }
                    None => {
                        bytes.fill(0);
                        Ok(())
                    }
                }
            }
        }
    }
}

fn open(path: &Path) -> Result<File, VerifyError> {
    File::open(path).map_err(|source| VerifyError::Io {
        what: "open".to_owned(),
        path: path.to_owned(),
        source,
    })
}

/// Reads all of `bytes`; what lies beyond the file's end reads as zeros.
fn read_at(file: &File, path: &Path, bytes: &mut [u8], at: u64) -> Result<(), VerifyError> {
    let mut done = 0;
    let mut offset = at;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset) {
            Ok(0) => {
                bytes[done..].fill(0);
                return Ok(());
            }
            Ok(count) => {
                done += count;
                offset += u64::try_from(count).unwrap_or(0);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => {
                return Err(VerifyError::Io {
                    what: format!("read at byte {offset} of"),
                    path: path.to_owned(),
                    source,
                });
            }
        }
    }
    Ok(())
}
