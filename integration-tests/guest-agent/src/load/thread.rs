// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One thread of a load.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::ack::{BlockAck, Counters};
use crate::load::acks::{AckArea, Aligned};
use crate::load::histogram::Histogram;
use crate::load::target::Target;
use crate::load::{Shared, lock, micros};
use crate::pattern::{self, BLOCK, Tag};
use crate::random::Sequence;
use crate::wire::{ErrnoCount, Event, LoadSpec, OnError, Pick, ThreadReport};

/// What a thread has counted.
#[derive(Default)]
pub(super) struct Stats {
    running: bool,
    writes: u64,
    fsyncs: u64,
    errors: Vec<ErrnoCount>,
    first_error: Option<String>,
    sync_began: Option<Instant>,
    pub(super) latency: Histogram,
}

impl Stats {
    pub(super) fn report(&self, thread: u32) -> ThreadReport {
        ThreadReport {
            thread,
            running: self.running,
            writes: self.writes,
            fsyncs: self.fsyncs,
            errors: self.errors.clone(),
            first_error: self.first_error.clone(),
            latency: self.latency.latency(),
            in_sync_us: self.sync_began.map(|began| micros(began.elapsed())),
        }
    }
}

/// What a thread needs to run.
pub(super) struct Worker {
    shared: Arc<Shared>,
    thread: u32,
    spec: LoadSpec,
    target: Target,
    area: Option<Arc<AckArea>>,
    buffer: Box<Aligned<BLOCK>>,
    /// The last sequence number written to each block, whether it was synced or not.
    seqs: Vec<u64>,
    next: u64,
    random: Sequence,
    counters: Counters,
    serial: u64,
}

/// Written, not yet synced.
struct Written {
    tag: Tag,
    crc: u32,
}

/// Ends the thread in the eyes of its load, also if it panics.
struct EndGuard {
    shared: Arc<Shared>,
    thread: u32,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        if let Some(stats) = usize::try_from(self.thread)
            .ok()
            .and_then(|thread| self.shared.stats.get(thread))
        {
            let mut stats = lock(stats);
            stats.running = false;
            stats.sync_began = None;
        }
        self.shared.thread_ended();
    }
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        thread: u32,
        spec: &LoadSpec,
        target: Target,
        area: Option<Arc<AckArea>>,
    ) -> Self {
        let blocks = usize::try_from(spec.blocks_per_thread).unwrap_or(usize::MAX);
        let worker = Self {
            shared,
            thread,
            spec: spec.clone(),
            target,
            area,
            buffer: Box::new(Aligned([0; BLOCK])),
            seqs: vec![0; blocks],
            next: 0,
            random: Sequence::new(spec.seed ^ (u64::from(thread) << 48)),
            counters: Counters::default(),
            serial: 1,
        };
        worker.stats(|stats| stats.running = true);
        worker
    }

    /// Loops until the load is stopped, its end is reached or an error ends it.
    pub(super) fn run(mut self) {
        let _guard = EndGuard {
            shared: Arc::clone(&self.shared),
            thread: self.thread,
        };
        let deadline = (self.spec.duration_ms > 0)
            .then(|| self.shared.began + Duration::from_millis(self.spec.duration_ms));
        let pace = Duration::from_micros(self.spec.pace_us);
        let mut rounds = 0;
        let mut start = Instant::now();
        loop {
            let ended = self.shared.stop.is_stopped()
                || deadline.is_some_and(|deadline| Instant::now() >= deadline)
                || (self.spec.syncs_per_thread > 0 && rounds >= self.spec.syncs_per_thread);
            if ended {
                break;
            }
            let errors = self.counters.errors;
            self.round();
            rounds += 1;
            if self.counters.errors > errors && self.spec.on_error == OnError::Stop {
                break;
            }
            if !pace.is_zero() {
                start = (start + pace).max(Instant::now() - pace);
                let until = deadline.map_or(start, |deadline| deadline.min(start));
                self.shared.stop.sleep_until(until);
            }
        }
        self.note_thread(true);
    }

    /// Writes, syncs, acks.
    fn round(&mut self) {
        let mut written = Vec::new();
        for _ in 0..self.spec.writes_per_sync.max(1) {
            if let Some(one) = self.write(&written) {
                written.push(one);
            }
        }
        if written.is_empty() {
            return;
        }
        let began = Instant::now();
        self.stats(|stats| stats.sync_began = Some(began));
        let result = self.target.sync();
        let took = began.elapsed();
        self.stats(|stats| stats.sync_began = None);
        if let Err(error) = result {
            let name = self.target.sync_name();
            return self.failed(
                &error,
                &format!("{name} after block {}", written[0].tag.block),
            );
        }
        // The clock that a reader can hold against other guest records.
        let time_ns = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .ok()
            .and_then(|time| u64::try_from(Duration::from(time).as_nanos()).ok())
            .unwrap_or(0);
        self.counters.fsyncs += 1;
        self.stats(|stats| {
            stats.fsyncs += 1;
            stats.latency.add(micros(took));
        });
        let Some(area) = self.area.clone() else {
            return;
        };
        for one in written {
            let ack = BlockAck {
                run: 0,
                thread: self.thread,
                tag: one.tag,
                content_crc: one.crc,
                time_ns,
                counters: self.counters,
            };
            if let Err(error) = area.block(ack) {
                self.failed(&error, &format!("ack of block {}", one.tag.block));
            }
        }
    }

    fn write(&mut self, written: &[Written]) -> Option<Written> {
        let first = u64::from(self.thread) * self.spec.blocks_per_thread;
        let mut local = match self.spec.pick {
            Pick::Sequential => self.next,
            Pick::Random => self.random.below(self.spec.blocks_per_thread),
        };
        // A block is written once per sync: step on to one that was not.
        while written.iter().any(|one| one.tag.block == first + local) {
            local = (local + 1) % self.spec.blocks_per_thread;
        }
        self.next = (local + 1) % self.spec.blocks_per_thread;
        let seq = self.seqs.get_mut(usize::try_from(local).ok()?)?;
        *seq += 1;
        let tag = Tag {
            seed: self.spec.seed,
            block: first + local,
            seq: *seq,
        };
        pattern::fill(&mut self.buffer.0, tag);
        let result = self.target.write(local, &self.buffer.0);
        self.stats(|stats| stats.writes += 1);
        match result {
            Ok(()) => Some(Written {
                tag,
                crc: crc32fast::hash(&self.buffer.0),
            }),
            Err(error) => {
                self.failed(&error, &format!("write of block {}", tag.block));
                None
            }
        }
    }

    /// Counts an error; the first of its errno is told.
    fn failed(&mut self, error: &io::Error, what: &str) {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        self.counters.errors += 1;
        self.counters.last_errno = errno;
        let message = format!("{what}: {error}");
        let is_new = self.stats(|stats| {
            if stats.first_error.is_none() {
                stats.first_error = Some(message.clone());
            }
            match stats.errors.iter_mut().find(|seen| seen.errno == errno) {
                Some(seen) => {
                    seen.count += 1;
                    false
                }
                None => {
                    stats.errors.push(ErrnoCount { errno, count: 1 });
                    true
                }
            }
        });
        if is_new == Some(true) {
            (self.shared.notify)(Event::LoadError {
                name: self.shared.name.clone(),
                thread: self.thread,
                errno,
                message,
            });
        }
        self.note_thread(false);
    }

    /// Writes the thread's record. If even that fails, the serial line still has the counters.
    fn note_thread(&mut self, ended: bool) {
        if let Some(area) = &self.area {
            self.serial += 1;
            mem::drop(area.thread(self.thread, self.serial, ended, self.counters));
        }
    }

    fn stats<T>(&self, change: impl FnOnce(&mut Stats) -> T) -> Option<T> {
        let thread = usize::try_from(self.thread).ok()?;
        Some(change(&mut lock(self.shared.stats.get(thread)?)))
    }
}
