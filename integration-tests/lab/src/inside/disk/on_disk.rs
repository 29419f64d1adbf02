// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What of a file has reached the disk, whatever the page cache says.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::inside::command::{ask, run};
use crate::inside::disk::mapping::dmsetup;
use crate::inside::disk::scratch::SECTOR;

/// Filesystem block, and unit of comparison, in bytes.
const BLOCK: u64 = 4096;

/// A block device that shows a file's own blocks on the disk, in the file's
/// order. It goes around the filesystem, and being new it has no cache of its
/// own: what it reads is what the disk holds. Dropping it removes it.
pub struct OnDisk {
    name: String,
}

impl OnDisk {
    /// Shows `file`, which lies on a filesystem on `device`. All of its blocks
    /// must be written: they do not move then.
    pub fn new(name: &str, device: &Path, file: &Path) -> Result<Self> {
        let path = file.display().to_string();
        let list = run("filefrag", &["-v", "-b4096", &path])?;
        let mut lines = Vec::new();
        let mut end = 0;
        for extent in list.lines().filter_map(Extent::parse) {
            if extent.logical != end || extent.unwritten {
                bail!("{path} has a hole or an unwritten part at block {end}");
            }
            end = extent.logical + extent.count;
            let [at, count, from] = [extent.logical, extent.count, extent.physical]
                .map(|blocks| blocks * BLOCK / SECTOR);
            lines.push(format!("{at} {count} linear {} {from}", device.display()));
        }
        if lines.is_empty() {
            bail!("{path} has no blocks on the disk");
        }
        let table = Path::new("/run/trial").join(format!("{name}.table"));
        std::fs::write(&table, lines.join("\n"))?;
        dmsetup(&["create", name, "--readonly", &table.display().to_string()])?;
        Ok(Self {
            name: name.to_owned(),
        })
    }

    /// The block device.
    pub fn path(&self) -> PathBuf {
        Path::new("/dev/mapper").join(&self.name)
    }

    /// Counts the 4 KiB blocks whose content on the disk is not what a reader
    /// of `file` gets.
    pub fn differing_blocks(&self, file: &Path) -> Result<u64> {
        let mut cached = File::open(file)?;
        let mut disk = File::open(self.path())?;
        let mut differing = 0;
        let (mut one, mut other) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        loop {
            let count = read_full(&mut cached, &mut one).context("cannot read the file")?;
            if count == 0 {
                return Ok(differing);
            }
            let there =
                read_full(&mut disk, &mut other[..count]).context("cannot read the disk")?;
            let block = usize::try_from(BLOCK)?;
            let pairs = one[..count].chunks(block).zip(other[..there].chunks(block));
            differing += pairs
                .map(|(one, other)| u64::from(one != other))
                .sum::<u64>();
        }
    }
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read(&mut buffer[done..])? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        let _ = ask(
            "dmsetup",
            &["remove", "--retry", "--noudevsync", &self.name],
        );
    }
}

/// One line of filefrag's table, in blocks.
#[derive(Debug, Eq, PartialEq)]
struct Extent {
    count: u64,
    logical: u64,
    physical: u64,
    unwritten: bool,
}

impl Extent {
    /// `   0:        0..    4095:      34816..     38911:   4096:   last,eof`
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(':');
        fields.next()?.trim().parse::<u64>().ok()?;
        let logical = fields.next()?.split("..").next()?.trim().parse().ok()?;
        let physical = fields.next()?.split("..").next()?.trim().parse().ok()?;
        let count = fields.next()?.trim().parse().ok()?;
        let unwritten = line.contains("unwritten");
        Some(Self {
            count,
            logical,
            physical,
            unwritten,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_is_read_with_and_without_an_expected_block() {
        let first = "   0:        0..    4095:      34816..     38911:   4096:             ";
        let extent = Extent {
            count: 4096,
            logical: 0,
            physical: 34816,
            unwritten: false,
        };
        assert_eq!(Extent::parse(first), Some(extent));
        let second = "   1:     4096..    4097:      50000..     50001:      2:      38912: \
                      last,unwritten,eof";
        let extent = Extent {
            count: 2,
            logical: 4096,
            physical: 50000,
            unwritten: true,
        };
        assert_eq!(Extent::parse(second), Some(extent));
        let head = " ext:     logical_offset:        physical_offset: length:   expected: flags:";
        assert_eq!(Extent::parse(head), None);
        assert_eq!(
            Extent::parse("File size of x is 16777216 (4096 blocks of 4096 bytes)"),
            None
        );
    }
}
