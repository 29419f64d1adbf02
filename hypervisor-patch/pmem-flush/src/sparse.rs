// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! Holes in a backing file.
//!
//! A guest's store into a hole allocates a block. On a full disk that store
//! can't be completed, and KVM ends the vCPU (`EFAULT` from `KVM_RUN`): no flush
//! is there to report it. So a host warns at start, or fills the holes then.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

/// Unit of `st_blocks` in stat(2), in bytes.
const BLOCK: u64 = 512;

/// Returns how many of the file's bytes have no block on the disk, 0 if it is
/// fully allocated.
///
/// Preallocated blocks that were never written count as allocated. The number
/// is what the filesystem says; one that compresses makes it an estimate.
///
/// # Errors
///
/// The file's metadata can't be read.
pub fn unallocated_bytes(file: &File) -> io::Result<u64> {
    let metadata = file.metadata()?;
    Ok(metadata
        .len()
        .saturating_sub(metadata.blocks().saturating_mul(BLOCK)))
}

/// Allocates every block of the file's present size; what it holds stays.
///
/// # Errors
///
/// As fallocate(2) gives: `ENOSPC` if the disk is too small, `EOPNOTSUPP` if
/// the filesystem can't preallocate.
pub fn preallocate(file: &File) -> io::Result<()> {
    let size = libc::off_t::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    if size == 0 {
        return Ok(());
    }
    loop {
        // SAFETY: the descriptor is open for the call, which touches no memory.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, size) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
