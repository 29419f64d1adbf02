// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a load is to do, and what it counted.

use serde::{Deserialize, Serialize};

/// Where a load writes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum LoadKind {
    /// 4 KiB O_DIRECT overwrites on a block device, then fsync on it.
    Raw {
        /// The device, as in [`crate::wire::Step`].
        device: String,
    },
    /// 4 KiB write(2) to one file per thread, `load-<thread>.dat`.
    File {
        /// The directory; made if it is missing.
        dir: String,
        /// Each write goes to the file's end until all its blocks are written, then from the
        /// start; otherwise the file is allocated first and overwritten.
        #[serde(default)]
        append: bool,
    },
    /// Stores into a shared mapping of one file per thread (allocated first), then msync(MS_SYNC).
    Mmap {
        /// The directory; made if it is missing.
        dir: String,
    },
}

/// The call that makes a write durable. A mapping always uses msync.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncCall {
    /// fsync(2).
    #[default]
    Fsync,
    /// fdatasync(2).
    Fdatasync,
}

/// Which block of its region a thread writes next.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pick {
    /// One after the other, from the start again after the last.
    #[default]
    Sequential,
    /// At random, from the seed.
    Random,
}

/// What a thread does after an error.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// It ends.
    #[default]
    Stop,
    /// It counts the error and goes on.
    GoOn,
}

/// Where the acks go.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AckPlace {
    /// The ack device, as in [`crate::wire::Step`], or a file.
    pub device: String,
    /// Where its area starts, in bytes, a multiple of 4096: two loads may share a device.
    #[serde(default)]
    pub offset: u64,
}

/// A load: N threads, each with its own blocks, each in a loop of write, sync, ack.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LoadSpec {
    /// Where it writes.
    pub kind: LoadKind,
    /// How many threads.
    pub threads: u32,
    /// How many 4 KiB blocks each thread owns.
    pub blocks_per_thread: u64,
    /// Raw only: the first thread's first block on the device.
    #[serde(default)]
    pub first_block: u64,
    /// Blocks written before each sync; 0 is taken as 1.
    #[serde(default)]
    pub writes_per_sync: u32,
    /// Ends after this many syncs per thread; 0 means no such end.
    #[serde(default)]
    pub syncs_per_thread: u64,
    /// Ends after this time; 0 means no such end.
    #[serde(default)]
    pub duration_ms: u64,
    /// The shortest time from one sync's start to the next's, in microseconds.
    #[serde(default)]
    pub pace_us: u64,
    /// fsync or fdatasync.
    #[serde(default)]
    pub sync: SyncCall,
    /// Sequential or random.
    #[serde(default)]
    pub pick: Pick,
    /// Stop or go on.
    #[serde(default)]
    pub on_error: OnError,
    /// Decides the content of every block, see [`crate::pattern`].
    pub seed: u64,
    /// Where each synced block is acked; without it the load only counts.
    #[serde(default)]
    pub ack: Option<AckPlace>,
    /// The report has the distribution of all latencies in place of the threads.
    #[serde(default)]
    pub distribution: bool,
}

impl LoadSpec {
    /// A load of `threads` threads with `blocks_per_thread` blocks each and all else at its
    /// default: one write per sync, no end of its own, no pacing, no acks.
    pub fn new(kind: LoadKind, threads: u32, blocks_per_thread: u64, seed: u64) -> Self {
        Self {
            kind,
            threads,
            blocks_per_thread,
            first_block: 0,
            writes_per_sync: 1,
            syncs_per_thread: 0,
            duration_ms: 0,
            pace_us: 0,
            sync: SyncCall::default(),
            pick: Pick::default(),
            on_error: OnError::default(),
            seed,
            ack: None,
            distribution: false,
        }
    }
}

/// How long syncs took, in microseconds. All zero if there was none.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// The shortest.
    pub min_us: u64,
    /// The median, to within 2 %.
    pub median_us: u64,
    /// The 99th percentile, to within 2 %.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// How often one errno was met.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ErrnoCount {
    /// The errno.
    pub errno: i32,
    /// How often.
    pub count: u64,
}

/// What one thread counted.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ThreadReport {
    /// Which one, from 0.
    pub thread: u32,
    /// It has not ended.
    pub running: bool,
    /// Blocks written.
    pub writes: u64,
    /// Syncs that returned 0.
    pub fsyncs: u64,
    /// Writes, syncs and acks that failed, by errno.
    pub errors: Vec<ErrnoCount>,
    /// The first error: what was tried on which block.
    pub first_error: Option<String>,
    /// How long the successful syncs took.
    pub latency: Latency,
    /// How long the sync that is running now has been going on, in microseconds.
    pub in_sync_us: Option<u64>,
}

/// What a load counted.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct LoadReport {
    /// Its name.
    pub name: String,
    /// The run's number in the ack area's header; 0 without acks.
    pub run: u64,
    /// Threads that have not ended.
    pub running: u32,
    /// Since its start, or from start to end.
    pub elapsed_ms: u64,
    /// Syncs that returned 0, all threads.
    pub fsyncs: u64,
    /// Errors, all threads.
    pub errors: u64,
    /// How long the successful syncs took, all threads.
    pub latency: Latency,
    /// Flush requests that the block layer counted on a raw device since the start.
    /// Devices without a request queue (pmem) are not counted there: then 0.
    pub block_flushes: Option<u64>,
    /// Each thread.
    pub threads: Vec<ThreadReport>,
    /// How many syncs took at most so many microseconds and more than the entry before says; to
    /// within 2 %. Only if the load was asked for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distribution: Vec<(u64, u64)>,
}
