// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The scratch disk, handed out piece by piece.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::inside::mounts;
use crate::job::SCRATCH_SERIAL;

/// Bytes in a sector, device-mapper's unit.
pub const SECTOR: u64 = 512;

/// Pieces start at multiples of this.
const ALIGN: u64 = 4 << 20;

/// The scratch disk. What was cut off is not given back one by one.
pub struct Scratch {
    device: PathBuf,
    next: u64,
    size: u64,
}

/// A piece of the scratch disk.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The disk.
    pub device: PathBuf,
    /// Where the piece starts on it, in sectors.
    pub start: u64,
    /// How long it is, in sectors.
    pub sectors: u64,
}

impl Scratch {
    /// Finds the disk.
    pub fn open() -> Result<Self> {
        let device = mounts::disk(SCRATCH_SERIAL)?;
        let name = device.file_name().context("the scratch disk has no name")?;
        let path = PathBuf::from("/sys/block").join(name).join("size");
        let sectors = fs::read_to_string(&path);
        let sectors = sectors.with_context(|| format!("cannot read {}", path.display()))?;
        let size = sectors.trim().parse::<u64>()? * SECTOR;
        Ok(Self {
            device,
            next: 0,
            size,
        })
    }

    /// Takes all pieces back. Nothing may be in use of them.
    pub fn reuse(&mut self) {
        self.next = 0;
    }

    /// Cuts off the next piece of `bytes`.
    pub fn cut(&mut self, bytes: u64) -> Result<Piece> {
        let start = self.next;
        let end = start + bytes.next_multiple_of(ALIGN);
        if end > self.size {
            bail!(
                "the scratch disk has {} bytes, the scenario needs more",
                self.size
            );
        }
        self.next = end;
        Ok(Piece {
            device: self.device.clone(),
            start: start / SECTOR,
            sectors: (end - start) / SECTOR,
        })
    }
}
