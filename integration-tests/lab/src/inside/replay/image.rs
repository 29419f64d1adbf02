// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A disk's content in a sparse file: what was never written, or holds zeros, takes no room.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, lseek};

/// A disk image.
pub struct Image {
    file: File,
    path: PathBuf,
    size: u64,
}

impl Image {
    /// An empty one of `size` bytes.
    pub fn new(path: &Path, size: u64) -> Result<Self> {
        let name = || format!("cannot make {}", path.display());
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .with_context(name)?;
        file.set_len(size).with_context(name)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            size,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes.
    pub fn write(&self, data: &[u8], at: u64) -> Result<()> {
        if data.iter().all(|&byte| byte == 0) {
            return self.zero(at, u64::try_from(data.len())?);
        }
        self.file
            .write_all_at(data, at)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Makes a range read as zeros.
    pub fn zero(&self, at: u64, bytes: u64) -> Result<()> {
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&self.file, hole, i64::try_from(at)?, i64::try_from(bytes)?)
            .with_context(|| format!("cannot punch a hole into {}", self.path.display()))
    }

    /// A copy of its own, in place of whatever is at `path`.
    pub fn copy(&self, path: &Path) -> Result<Self> {
        let copy = Self::new(path, self.size)?;
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        while let Some(start) = self.seek(at, Whence::SeekData)? {
            let end = self.seek(start, Whence::SeekHole)?.unwrap_or(self.size);
            at = start;
            while at < end {
                let count = usize::try_from(end - at)?.min(buffer.len());
                let piece = &mut buffer[..count];
                self.file
                    .read_exact_at(piece, at)
                    .with_context(|| format!("cannot read {}", self.path.display()))?;
                copy.write(piece, at)?;
                at += u64::try_from(count)?;
            }
        }
        Ok(copy)
    }

    fn seek(&self, from: u64, what: Whence) -> Result<Option<u64>> {
        match lseek(&self.file, i64::try_from(from)?, what) {
            Ok(at) => Ok(Some(u64::try_from(at)?)),
            Err(Errno::ENXIO) => Ok(None),
            Err(errno) => {
                Err(errno).with_context(|| format!("cannot seek in {}", self.path.display()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_copy_is_the_same_and_as_sparse() {
        let dir = tempfile::tempdir().unwrap();
        let image = Image::new(&dir.path().join("one"), 1 << 24).unwrap();
        image.write(&[5; 8192], 4096).unwrap();
        image.write(&[6; 512], (1 << 24) - 512).unwrap();
        image.write(&[0; 1 << 20], 1 << 21).unwrap();
        image.zero(4096, 4096).unwrap();
        let copy = image.copy(&dir.path().join("two")).unwrap();
        let [one, two] = [&image, &copy].map(|image| fs::read(image.path()).unwrap());
        assert!(one == two);
        assert_eq!(two[4096..8192], [0; 4096]);
        assert_eq!(two[8192..12288], [5; 4096]);
        assert!(fs::metadata(copy.path()).unwrap().blocks() < 100);
        copy.write(&[7; 512], 0).unwrap();
        assert_eq!(fs::read(image.path()).unwrap()[0], 0);
    }
}
