// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Copies a sparse file: RAM to the snapshot's `memory` file, and back.
//!
//! Holes of the source are not even read; pages of zeros are not written.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::{Cancel, RamRegion};

/// How much is read at once.
const CHUNK: usize = 1 << 20;

/// The unit that is written or left out: a guest's page and a file system's block.
const PAGE: usize = 4096;

/// Which of the two files failed.
#[derive(Debug)]
pub enum CopyError {
    /// The source cannot be read.
    Read(io::Error),
    /// The target cannot be written.
    Write(io::Error),
    /// Called off.
    Cancelled,
}

/// Copies the regions' bytes from `source` to the same offsets in `target`, which
/// reads as zeros there. Returns how many bytes were written.
pub fn copy_sparse(
    source: &File,
    target: &File,
    regions: &[RamRegion],
    cancel: &Cancel,
) -> Result<u64, CopyError> {
    let mut buffer = vec![0; CHUNK];
    let mut written = 0;
    for region in regions {
        let end = region.offset + region.size;
        let mut at = region.offset;
        while let Some((start, stop)) = next_data(source, at, end).map_err(CopyError::Read)? {
            at = start;
            while at < stop {
                if cancel.is_cancelled() {
                    return Err(CopyError::Cancelled);
                }
                let length = usize::try_from(stop - at).unwrap_or(CHUNK).min(CHUNK);
                let chunk = &mut buffer[..length];
                source.read_exact_at(chunk, at).map_err(CopyError::Read)?;
                written += write_pages(target, chunk, at).map_err(CopyError::Write)?;
                at += length as u64;
            }
        }
    }
    Ok(written)
}

/// The next piece of `file` between `from` and `end` that is no hole.
fn next_data(file: &File, from: u64, end: u64) -> io::Result<Option<(u64, u64)>> {
    if from >= end {
        return Ok(None);
    }
    let Some(start) = seek(file, from, Whence::SeekData)? else {
        return Ok(None);
    };
    if start >= end {
        return Ok(None);
    }
    // The end of the file counts as a hole.
    let stop = seek(file, start, Whence::SeekHole)?.unwrap_or(end);
    Ok(Some((start, stop.min(end))))
}

/// `None`: there is no data behind `from`.
fn seek(file: &File, from: u64, whence: Whence) -> io::Result<Option<u64>> {
    let from = i64::try_from(from).map_err(io::Error::other)?;
    match lseek(file, from, whence) {
        Ok(at) => Ok(u64::try_from(at).ok()),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Writes the runs of pages of `chunk` that are not all zeros.
fn write_pages(target: &File, chunk: &[u8], at: u64) -> io::Result<u64> {
    let mut written = 0;
    let mut run = 0..0;
    for (index, page) in chunk.chunks(PAGE).enumerate() {
        let start = index * PAGE;
        if is_zero(page) {
            written += write_run(target, chunk, at, &run)?;
            run = 0..0;
        } else if run.is_empty() {
            run = start..start + page.len();
        } else {
            run.end += page.len();
        }
    }
    written += write_run(target, chunk, at, &run)?;
    Ok(written)
}

fn write_run(target: &File, chunk: &[u8], at: u64, run: &Range<usize>) -> io::Result<u64> {
    if run.is_empty() {
        return Ok(0);
    }
    target.write_all_at(&chunk[run.clone()], at + run.start as u64)?;
    Ok(run.len() as u64)
}

fn is_zero(page: &[u8]) -> bool {
    page.iter().fold(0, |all, byte| all | byte) == 0
}
