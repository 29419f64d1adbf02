// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! The lock that keeps a second writer off a backing file.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::{io, mem};

/// How the file is going to be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LockKind {
    /// Only read: a private mapping (`discard_writes=on`) or a read-only one.
    Shared,
    /// Written through a shared mapping.
    Exclusive,
}

/// The file could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has the file locked.
    #[error("backing file is locked by another process or device that uses it")]
    Locked,
    /// The lock call failed. On a filesystem without locks: `ENOLCK` or
    /// `EOPNOTSUPP`.
    #[error("backing file can't be locked")]
    Io(#[source] io::Error),
    /// The file's descriptor could not be duplicated.
    #[error("backing file can't be duplicated")]
    Duplicate(#[source] io::Error),
}

/// A lock on a whole file, held until it is dropped.
///
/// It is an open file description lock (`F_OFD_SETLK` in fcntl(2)): it belongs
/// to the open file, not to the process, so two devices of one VMM exclude each
/// other as well, provided that each has opened the file itself.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Locks `file`, which must be open for writing for [`LockKind::Exclusive`]
    /// and for reading for [`LockKind::Shared`].
    ///
    /// # Errors
    ///
    /// [`LockError::Locked`] at once if somebody else has a conflicting lock.
    pub fn acquire(file: &File, kind: LockKind) -> Result<Self, LockError> {
        let file = file.try_clone().map_err(LockError::Duplicate)?;
        let lock_type = match kind {
            LockKind::Shared => libc::F_RDLCK,
            LockKind::Exclusive => libc::F_WRLCK,
        };
        set_lock(&file, lock_type).map_err(|error| match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EACCES) => LockError::Locked,
            _ => LockError::Io(error),
        })?;
        Ok(FileLock { file })
    }
}

impl Drop for FileLock {
    // The worker may still hold the same open file in a hung sync, so closing
    // our descriptor alone would keep the lock.
    fn drop(&mut self) {
        if let Err(error) = set_lock(&self.file, libc::F_UNLCK) {
            log::warn!("backing file can't be unlocked: {error}");
        }
    }
}

fn set_lock(file: &File, lock_type: libc::c_int) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid flock: it only has integers.
    let mut lock: libc::flock = unsafe { mem::zeroed() };
    lock.l_type = libc::c_short::try_from(lock_type).map_err(io::Error::other)?;
    lock.l_whence = libc::c_short::try_from(libc::SEEK_SET).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the call and the structure outlives it.
    let ret = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if ret == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
