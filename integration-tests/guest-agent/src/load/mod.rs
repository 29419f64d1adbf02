// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The load engine: N threads, each with its own blocks, each in a loop of write, sync, ack.

mod acks;
mod histogram;
mod target;
mod thread;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread as threads;
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use thiserror::Error;

use crate::ack::{AckError, Header, Layout};
use crate::load::acks::AckArea;
use crate::load::histogram::Histogram;
use crate::load::target::Target;
use crate::load::thread::{Stats, Worker};
use crate::pattern::BLOCK;
use crate::random;
use crate::wire::{Event, LoadKind, LoadReport, LoadSpec};

/// At most this many threads per load.
const MAX_THREADS: u32 = 256;

/// Why a load did not start.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The order makes no sense.
    #[error("{option} is {value}: {want}")]
    Spec {
        /// The field of [`LoadSpec`].
        option: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        want: String,
    },
    /// A file or device cannot be made ready.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The ack area cannot hold this load.
    #[error(transparent)]
    Ack(#[from] AckError),
}

impl LoadError {
    /// The errno, if a system call failed.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            Self::Spec { .. } | Self::Ack(_) => None,
        }
    }

    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// Takes a lock; what a panicked thread left is still only counters.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A flag that sleepers wake up from.
#[derive(Debug, Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn stop(&self) {
        *lock(&self.stopped) = true;
        self.changed.notify_all();
    }

    fn is_stopped(&self) -> bool {
        *lock(&self.stopped)
    }

    /// Sleeps until `when`, or until it is stopped.
    fn sleep_until(&self, when: Instant) {
        let mut stopped = lock(&self.stopped);
        while !*stopped {
            let left = when.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            stopped = self
                .changed
                .wait_timeout(stopped, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// What the threads of a load share.
struct Shared {
    name: String,
    run: u64,
    stop: Stop,
    began: Instant,
    /// Set when the last thread ends.
    took: Mutex<Option<Duration>>,
    running: AtomicU32,
    /// Readable once all threads have ended.
    ended: EventFd,
    stats: Vec<Mutex<Stats>>,
    distribution: bool,
    /// The raw device's counters in sysfs and its flushes at the start.
    block_stat: Option<(PathBuf, u64)>,
    notify: Box<dyn Fn(Event) + Send + Sync>,
}

/// A load that was started. Dropping it lets its threads end when they can.
pub struct Load {
    shared: Arc<Shared>,
}

impl Load {
    /// Starts a load. `resolve` turns the `device` of an order into a path; `notify` is told
    /// of first errors and of the end, from the load's threads.
    ///
    /// When it returns, files are allocated, the ack area is laid out and the threads run.
    ///
    /// # Errors
    ///
    /// The spec makes no sense, a file or device cannot be made ready, or the ack area is too
    /// small. Nothing runs then.
    pub fn start(
        name: &str,
        spec: &LoadSpec,
        resolve: &dyn Fn(&str) -> io::Result<PathBuf>,
        notify: Box<dyn Fn(Event) + Send + Sync>,
    ) -> Result<Self, LoadError> {
        check(spec)?;
        let mut targets = Vec::new();
        let mut block_stat = None;
        let mut data = None;
        if let LoadKind::Raw { device } = &spec.kind {
            let path = resolve(device).map_err(LoadError::io("find", Path::new(device)))?;
            block_stat = stat_path(&path).map(|stat| {
                let flushes = flushes(&stat).unwrap_or(0);
                (stat, flushes)
            });
            for thread in 0..spec.threads {
                targets.push(Target::raw(&path, spec, thread)?);
            }
            data = Some(path);
        } else {
            for thread in 0..spec.threads {
                targets.push(Target::file(spec, thread)?);
            }
        }
        let run = (random::number() >> 12).max(1);
        let header = Header {
            run,
            seed: spec.seed,
            threads: spec.threads,
            blocks_per_thread: spec.blocks_per_thread,
            first_block: spec.first_block,
            layout: match spec.kind {
                LoadKind::Raw { .. } => Layout::Raw,
                LoadKind::File { .. } | LoadKind::Mmap { .. } => Layout::Files,
            },
        };
        let area = match &spec.ack {
            None => None,
            Some(place) => {
                let path = resolve(&place.device).map_err(LoadError::io(
                    "find the ack device",
                    Path::new(&place.device),
                ))?;
                if data.as_ref() == Some(&path) {
                    return Err(LoadError::Spec {
                        option: "ack.device",
                        value: place.device.clone(),
                        want: "another device than the data's: acks must not wait for its syncs"
                            .to_owned(),
                    });
                }
                Some(Arc::new(AckArea::prepare(&path, place.offset, header)?))
            }
        };
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            run: area.as_ref().map_or(0, |_| run),
            stop: Stop::default(),
            began: Instant::now(),
            took: Mutex::new(None),
            running: AtomicU32::new(spec.threads),
            ended: EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
                .map_err(|errno| LoadError::io("make", Path::new("eventfd"))(errno.into()))?,
            stats: targets.iter().map(|_| Mutex::default()).collect(),
            distribution: spec.distribution,
            block_stat,
            notify,
        });
        let load = Self {
            shared: Arc::clone(&shared),
        };
        for (thread, target) in (0..spec.threads).zip(targets) {
            let worker = Worker::new(Arc::clone(&shared), thread, spec, target, area.clone());
            let spawned = threads::Builder::new()
                .name(format!("load-{thread}"))
                .spawn(move || worker.run());
            if let Err(source) = spawned {
                // The threads that do not exist have ended; dropping stops the others.
                for _ in thread..spec.threads {
                    shared.thread_ended();
                }
                return Err(LoadError::io("start a thread of", Path::new(name))(source));
            }
        }
        Ok(load)
    }

    /// The counters as they are now.
    pub fn report(&self) -> LoadReport {
        self.shared.report()
    }

    /// Lets each thread end after the step it is in.
    pub fn stop(&self) {
        self.shared.stop.stop();
    }

    /// Tells whether a thread has not ended.
    pub fn is_running(&self) -> bool {
        self.shared.running.load(Ordering::Acquire) > 0
    }

    /// A descriptor that is readable once all threads have ended.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.shared.ended.as_fd()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Called once for each thread, when all it did is counted.
    fn thread_ended(&self) {
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            *lock(&self.took) = Some(self.began.elapsed());
            (self.notify)(Event::LoadEnded {
                report: self.report(),
            });
            // The counter is at 0 and takes 1: it cannot fail.
            let _ = self.ended.write(1);
        }
    }

    fn report(&self) -> LoadReport {
        let took = *lock(&self.took);
        let mut report = LoadReport {
            name: self.name.clone(),
            run: self.run,
            running: self.running.load(Ordering::Acquire),
            elapsed_ms: millis(took.unwrap_or_else(|| self.began.elapsed())),
            ..LoadReport::default()
        };
        let mut all = Histogram::default();
        for (thread, stats) in (0..).zip(&self.stats) {
            let stats = lock(stats);
            all.merge(&stats.latency);
            let one = stats.report(thread);
            report.fsyncs += one.fsyncs;
            report.errors += one.errors.iter().map(|error| error.count).sum::<u64>();
            if !self.distribution {
                report.threads.push(one);
            }
        }
        report.latency = all.latency();
        if self.distribution {
            report.distribution = all.counts();
        }
        report.block_flushes = self
            .block_stat
            .as_ref()
            .and_then(|(path, before)| Some(flushes(path)?.saturating_sub(*before)));
        report
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn check(spec: &LoadSpec) -> Result<(), LoadError> {
    let wrong = |option, value: u64, want: String| {
        Err(LoadError::Spec {
            option,
            value: value.to_string(),
            want,
        })
    };
    if !(1..=MAX_THREADS).contains(&spec.threads) {
        let want = format!("1 to {MAX_THREADS} threads");
        return wrong("threads", u64::from(spec.threads), want);
    }
    if !(1..=1 << 32).contains(&spec.blocks_per_thread) {
        let want = "1 to 2^32 blocks".to_owned();
        return wrong("blocks_per_thread", spec.blocks_per_thread, want);
    }
    if u64::from(spec.writes_per_sync) > spec.blocks_per_thread {
        // A block written twice before its sync would make its first write's fate unknown.
        let want = format!("at most blocks_per_thread, {}", spec.blocks_per_thread);
        return wrong("writes_per_sync", u64::from(spec.writes_per_sync), want);
    }
    if let Some(place) = &spec.ack
        && place.offset % 4096 != 0
    {
        return wrong("ack.offset", place.offset, "a multiple of 4096".to_owned());
    }
    Ok(())
}

/// The file of a block device's counters; none for a regular file.
fn stat_path(device: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(device).ok()?;
    let stat = Path::new("/sys/class/block")
        .join(real.file_name()?)
        .join("stat");
    stat.exists().then_some(stat)
}

/// The block layer's count of completed flush requests: field 16 of `stat`
/// (Documentation/block/stat.rst).
fn flushes(stat: &Path) -> Option<u64> {
    let text = fs::read_to_string(stat).ok()?;
    text.split_ascii_whitespace().nth(15)?.parse().ok()
}

/// Bytes in a block, as an offset.
const BLOCK_BYTES: u64 = {
    assert!(BLOCK == 4096, "offsets below are in blocks of 4096 bytes");
    4096
};

/// The size of a file or block device.
fn size_of(file: &File) -> io::Result<u64> {
    // A block device's metadata has no length; its end can be sought.
    // SAFETY: lseek takes no pointer; the descriptor is borrowed from a live file.
    let end = unsafe { libc::lseek(file.as_raw_fd(), 0, libc::SEEK_END) };
    u64::try_from(end).map_err(|_| io::Error::last_os_error())
}
