// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A device-mapper device over a piece of the scratch disk.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::inside::command::{ask, run};
use crate::inside::disk::Piece;

/// How the device behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Table {
    /// Each flush takes at least this many milliseconds (dm-delay); reads and
    /// writes pass at once.
    FlushCost(u32),
    /// Everything fails, as of a disk that was unplugged (dm-error).
    FailAll,
    /// Writes and flushes fail, reads pass (dm-flakey).
    FailWrites,
    /// Everything passes.
    Plain,
}

/// A mapped device; dropping it removes it.
pub struct Mapping {
    name: String,
    node: PathBuf,
    piece: Piece,
}

impl Mapping {
    /// Maps `piece` under `name`.
    pub fn new(name: &str, piece: Piece, table: Table) -> Result<Self> {
        dmsetup(&["create", name, "--table", &line(&piece, table)])?;
        let name = name.to_owned();
        match node(&name) {
            Ok(node) => Ok(Self { name, node, piece }),
            Err(error) => {
                remove(&name);
                Err(error)
            }
        }
    }

    /// The device node.
    pub fn path(&self) -> &Path {
        &self.node
    }

    /// The piece below.
    pub fn piece(&self) -> &Piece {
        &self.piece
    }

    /// Changes the table under running I/O. A filesystem above is not frozen:
    /// one that waits for a bad disk would never let the change happen. What
    /// dm-delay holds back goes out at once.
    pub fn set(&self, table: Table) -> Result<()> {
        dmsetup(&["load", &self.name, "--table", &line(&self.piece, table)])?;
        self.hold()?;
        self.let_go()
    }

    /// Makes the device as long as `sectors`; the piece goes on that far.
    pub fn grow(&mut self, sectors: u64) -> Result<()> {
        self.piece.sectors = sectors;
        self.set(Table::Plain)
    }

    /// Holds all I/O back, as a disk that hangs does.
    pub fn hold(&self) -> Result<()> {
        dmsetup(&["suspend", "--noflush", "--nolockfs", &self.name]).map(drop)
    }

    /// What was held back goes out.
    pub fn let_go(&self) -> Result<()> {
        dmsetup(&["resume", &self.name]).map(drop)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // Held-back I/O would keep it busy.
        let _ = self.set(Table::Plain);
        remove(&self.name);
    }
}

fn line(piece: &Piece, table: Table) -> String {
    let Piece {
        device,
        start,
        sectors,
    } = piece;
    let device = device.display();
    match table {
        Table::Plain => format!("0 {sectors} linear {device} {start}"),
        // Three triples: reads, writes, flushes.
        Table::FlushCost(ms) => {
            format!("0 {sectors} delay {device} {start} 0 {device} {start} 0 {device} {start} {ms}")
        }
        Table::FailAll => format!("0 {sectors} error"),
        // Up for 0 s, down for 1 s, for ever.
        Table::FailWrites => format!("0 {sectors} flakey {device} {start} 0 1 1 error_writes"),
    }
}

/// Runs dmsetup. There is no udev in the lab that it could wait for.
pub fn dmsetup(arguments: &[&str]) -> Result<String> {
    let mut all = vec!["--noudevsync", "--noudevrules"];
    all.extend_from_slice(arguments);
    run("dmsetup", &all)
}

/// The node that the kernel itself makes for a mapped device.
pub fn node(name: &str) -> Result<PathBuf> {
    let arguments = [
        "info",
        "--columns",
        "--noheadings",
        "-o",
        "blkdevname",
        name,
    ];
    Ok(Path::new("/dev").join(dmsetup(&arguments)?.trim()))
}

/// Removes a mapped device, as far as that is possible.
pub fn remove(name: &str) {
    let _ = ask("dmsetup", &["remove", "--retry", "--noudevsync", name]);
}
