// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What of a file has reached the disk, whatever the page cache says.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::inside::cleanup::WORK;
use crate::inside::command::run;
use crate::inside::disk::Piece;
use crate::inside::disk::mapping::{dmsetup, node, remove};
use crate::inside::disk::scratch::SECTOR;

/// Filesystem block in bytes.
const BLOCK: u64 = 4096;

/// A block device that shows a file's own blocks on the disk, in the file's
/// order. It goes around the filesystem, and being new it has no cache of its
/// own: what it reads is what the disk holds. Dropping it removes it.
pub struct OnDisk {
    name: String,
    node: PathBuf,
}

impl OnDisk {
    /// Shows `file`, which lies on a filesystem on `piece`. All of its blocks
    /// must be written: they do not move then. The mapping between the two is
    /// left out: its mount holds it for itself.
    pub fn new(name: &str, piece: &Piece, file: &Path) -> Result<Self> {
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
            let (device, from) = (piece.device.display(), piece.start + from);
            lines.push(format!("{at} {count} linear {device} {from}"));
        }
        if lines.is_empty() {
            bail!("{path} has no blocks on the disk");
        }
        let table = Path::new(WORK).join(format!("{name}.table"));
        fs::write(&table, lines.join("\n"))?;
        let table = table.display().to_string();
        dmsetup(&["create", name, "--readonly", &table])?;
        let name = name.to_owned();
        match node(&name) {
            Ok(node) => Ok(Self { name, node }),
            Err(error) => {
                remove(&name);
                Err(error)
            }
        }
    }

    /// The block device.
    pub fn path(&self) -> &Path {
        &self.node
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        remove(&self.name);
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
