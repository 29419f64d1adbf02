// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Keeping every other chpatch out of a folder.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::Error;

/// Keeps every other chpatch out of a tree or a series while it lives.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Takes the lock of the folder `name`, which is open for reading as `folder`.
    ///
    /// # Errors
    /// [`Error::Busy`] if another one has it.
    pub fn take(folder: File, name: &Path) -> Result<Self, Error> {
        match folder.try_lock() {
            Ok(()) => Ok(Self(folder)),
            Err(TryLockError::WouldBlock) => Err(Error::Busy {
                folder: name.to_owned(),
            }),
            Err(TryLockError::Error(error)) => {
                Err(Error::io(format!("lock {}", name.display()))(error))
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a process forked meanwhile, on its way to
        // becoming a git, still has the descriptor. Nothing is lost if it fails.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_guard_though_another_process_has_the_descriptor() {
        let scratch = tempfile::tempdir().unwrap();
        let take = || Lock::take(File::open(scratch.path()).unwrap(), scratch.path());
        let lock = take().unwrap();
        let inherited = lock.0.try_clone().unwrap();
        assert!(matches!(take(), Err(Error::Busy { .. })));
        drop(lock);
        take().unwrap();
        drop(inherited);
    }
}
