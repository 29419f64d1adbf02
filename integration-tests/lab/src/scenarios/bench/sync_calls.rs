// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What each call costs that could make a mapped file's pages durable: no guest, a process of the
//! host that writes through a shared mapping as a guest does.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::ptr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use crate::inside::cleanup::WORK;
use crate::inside::command::{ask, run as tool};
use crate::inside::context::Context;
use crate::inside::disk::{Mapping, Scratch, Table};
use crate::scenarios::bench::Rows;

/// The file. The smallest btrfs is made of is some 109 MiB.
const BYTES: usize = 64 << 20;
const PAGE: usize = 4096;
/// Room for the filesystem around it.
const DISK: u64 = 400 << 20;
const ROUNDS: u64 = 30;
/// What a flush of the disk takes: a call that sends none is seen by that.
const COST_MS: u32 = 5;

const FILESYSTEMS: [(&str, &[&str]); 3] = [
    ("ext4", &["mkfs.ext4", "-q", "-F"]),
    ("xfs", &["mkfs.xfs", "-q", "-f"]),
    ("btrfs", &["mkfs.btrfs", "-q", "-f"]),
];

const CALLS: [&str; 4] = ["fdatasync", "fsync", "msync", "sync_file_range"];

/// One case: the times are microseconds of a call.
#[derive(Serialize)]
struct Row {
    filesystem: &'static str,
    file: &'static str,
    call: &'static str,
    dirty_pages: usize,
    flush_cost_ms: u32,
    rounds: u64,
    median_us: u64,
    p99_us: u64,
    /// Flushes of the disk for each call: 0 means that a power cut can take the data.
    disk_flushes_per_call: f64,
}

/// `bench-sync-calls`.
pub fn run(context: &mut Context) -> Result<()> {
    let rounds = context.number("rounds", ROUNDS)?;
    let mut scratch = Scratch::open()?;
    let mut rows = Rows::default();
    for (filesystem, make) in FILESYSTEMS {
        let mapping = Mapping::new(filesystem, scratch.cut(DISK)?, Table::Plain)?;
        let device = mapping.path().display().to_string();
        let (program, options) = make.split_first().context("no program")?;
        tool(program, &[options, &[device.as_str()]].concat())?;
        let mounted = Mounted::new(&device, &Path::new(WORK).join(filesystem))?;
        for file in ["written", "sparse"] {
            for call in CALLS {
                for dirty in [1, 64, 1024] {
                    context.step(&format!(
                        "{call}, {dirty} pages, {file} file on {filesystem}"
                    ));
                    mapping.set(Table::Plain)?;
                    let target = Target::new(&mounted.at, file)?;
                    mapping.set(Table::FlushCost(COST_MS))?;
                    let before = flushes(&mapping)?;
                    let mut times = target.measure(call, dirty, rounds)?;
                    let sent = flushes(&mapping)? - before;
                    times.sort_unstable();
                    let at = |percent: usize| micros(times[(times.len() - 1) * percent / 100]);
                    #[expect(clippy::cast_precision_loss, reason = "small counts")]
                    let disk_flushes_per_call = sent as f64 / rounds as f64;
                    let row = Row {
                        filesystem,
                        file,
                        call,
                        dirty_pages: dirty,
                        flush_cost_ms: COST_MS,
                        rounds,
                        median_us: at(50),
                        p99_us: at(99),
                        disk_flushes_per_call,
                    };
                    rows.add(context, &row);
                }
            }
        }
        mapping.set(Table::Plain)?;
    }
    Ok(())
}

/// A mounted filesystem; dropping it unmounts.
struct Mounted {
    at: PathBuf,
}

impl Mounted {
    fn new(device: &str, at: &Path) -> Result<Self> {
        fs::create_dir_all(at)?;
        tool("mount", &[device, &at.display().to_string()])?;
        Ok(Self { at: at.to_owned() })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = ask("umount", &[&self.at.display().to_string()]);
    }
}

/// A mapped file.
struct Target {
    file: File,
    map: *mut libc::c_void,
}

impl Target {
    fn new(dir: &Path, kind: &str) -> Result<Self> {
        let path = dir.join("file");
        let _ = fs::remove_file(&path);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        file.set_len(u64::try_from(BYTES)?)?;
        if kind == "written" {
            let zeros = vec![0; 1 << 20];
            for _ in 0..BYTES >> 20 {
                (&file).write_all(&zeros)?;
            }
        }
        file.sync_all()?;
        // SAFETY: a new shared mapping of a file that nobody shrinks; unmapped in drop.
        let map = unsafe {
            libc::mmap(
                ptr::null_mut(),
                BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("mmap");
        }
        Ok(Self { file, map })
    }

    /// Dirties pages, then calls; only the call is timed.
    fn measure(&self, call: &str, dirty: usize, rounds: u64) -> Result<Vec<Duration>> {
        let pages = BYTES / PAGE;
        let mut times = Vec::new();
        for round in 0..usize::try_from(rounds)? {
            let mark = u8::try_from(round % 251)?;
            for page in 0..dirty {
                // Spread, so that few pages are not one extent.
                let at = (round * dirty + page) * 7 % pages * PAGE;
                // SAFETY: inside the mapping, which lives as long as self.
                unsafe { self.map.cast::<u8>().add(at).write_volatile(mark) };
            }
            let begun = Instant::now();
            self.call(call)?;
            times.push(begun.elapsed());
        }
        Ok(times)
    }

    fn call(&self, call: &str) -> Result<()> {
        let fd = self.file.as_raw_fd();
        // SAFETY: the descriptor is open, the mapping is ours and BYTES long.
        let result = unsafe {
            match call {
                "fdatasync" => libc::fdatasync(fd),
                "fsync" => libc::fsync(fd),
                "msync" => libc::msync(self.map, BYTES, libc::MS_SYNC),
                "sync_file_range" => libc::sync_file_range(
                    fd,
                    0,
                    0,
                    libc::SYNC_FILE_RANGE_WAIT_BEFORE
                        | libc::SYNC_FILE_RANGE_WRITE
                        | libc::SYNC_FILE_RANGE_WAIT_AFTER,
                ),
                other => bail!("no call is named {other}"),
            }
        };
        if result != 0 {
            return Err(io::Error::last_os_error()).with_context(|| call.to_owned());
        }
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // SAFETY: mapped in new with this length.
        unsafe { libc::munmap(self.map, BYTES) };
    }
}

/// Flushes that the disk has completed (field 16 of `stat`, Documentation/block/stat.rst).
fn flushes(mapping: &Mapping) -> Result<u64> {
    let name = mapping.path().file_name().unwrap_or_default();
    let path = Path::new("/sys/block").join(name).join("stat");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let field = text.split_ascii_whitespace().nth(15);
    Ok(field.context("no count of flushes")?.parse()?)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
