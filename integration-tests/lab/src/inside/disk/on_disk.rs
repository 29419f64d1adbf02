// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What of a file has reached the disk, whatever the page cache says.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

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
        Self::show(name, piece, file, None)
    }

    /// The same for the first `bytes` of a file, whatever there is behind them.
    pub fn first(name: &str, piece: &Piece, file: &Path, bytes: u64) -> Result<Self> {
        Self::show(name, piece, file, Some(bytes / BLOCK))
    }

    fn show(name: &str, piece: &Piece, file: &Path, blocks: Option<u64>) -> Result<Self> {
        let path = file.display().to_string();
        let list = run("filefrag", &["-v", "-b4096", &path])?;
        let extents = Extent::all(&list, blocks).with_context(|| path.clone())?;
        let lines: Vec<_> = extents
            .iter()
            .map(|extent| {
                let [at, count, from] = [extent.logical, extent.count, extent.physical]
                    .map(|blocks| blocks * BLOCK / SECTOR);
                let (device, from) = (piece.device.display(), piece.start + from);
                format!("{at} {count} linear {device} {from}")
            })
            .collect();
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
    /// Those of filefrag's table that make up the file's first `blocks`, or all of it.
    fn all(list: &str, blocks: Option<u64>) -> Result<Vec<Self>> {
        let most = blocks.unwrap_or(u64::MAX);
        let mut all = Vec::new();
        let mut end = 0;
        let extents = list.lines().filter_map(Self::parse);
        for mut extent in extents.take_while(|extent| extent.logical < most) {
            if extent.logical != end || extent.unwritten {
                bail!("a hole or an unwritten part at block {end}");
            }
            extent.count = extent.count.min(most - extent.logical);
            end = extent.logical + extent.count;
            all.push(extent);
        }
        ensure!(end > 0, "no blocks on the disk");
        ensure!(
            blocks.is_none_or(|blocks| blocks == end),
            "the end at block {end}"
        );
        Ok(all)
    }

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
    fn only_the_part_that_is_asked_for_must_be_there() {
        let list = "   0:        0..       9:         50..        59:     10:             \n   \
                    1:       10..      19:         80..        89:     10:         60: unwritten\n   \
                    2:       30..      39:        100..       109:     10:         90: last,eof";
        let count = |blocks| -> Result<Vec<_>> {
            let all = Extent::all(list, blocks)?;
            Ok(all.iter().map(|extent| extent.count).collect())
        };
        assert_eq!(count(Some(10)).unwrap(), [10]);
        assert_eq!(count(Some(4)).unwrap(), [4]);
        count(Some(11)).unwrap_err();
        count(None).unwrap_err();
        let written = list.replace("unwritten", "");
        let all = |blocks| Extent::all(&written, blocks);
        assert_eq!(all(Some(20)).unwrap().len(), 2);
        all(Some(25)).unwrap_err();
        all(None).unwrap_err();
        let whole = &written[..written.rfind('\n').unwrap()];
        assert_eq!(Extent::all(whole, None).unwrap().len(), 2);
        Extent::all(whole, Some(25)).unwrap_err();
        Extent::all("", None).unwrap_err();
    }

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
