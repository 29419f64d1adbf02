// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A thin pool: a disk that promises more room than it has.

use std::fs::File;
use std::io::Write;

use anyhow::{Context, Result};

use crate::inside::command::run;
use crate::inside::disk::mapping::{dmsetup, node, remove};
use crate::inside::disk::scratch::SECTOR;
use crate::inside::disk::{Mapping, Piece, Scratch, Table};

/// The pool hands out its room in pieces of this many sectors.
const CHUNK: u64 = 128;
const META_BYTES: u64 = 4 << 20;

const POOL: &str = "pool";
const VOLUME: &str = "volume";

/// A pool with one volume. Dropping it removes both.
pub struct ThinPool {
    // Dropped after the pool and the volume, which are above them.
    data: Mapping,
    meta: Mapping,
    whole: u64,
    volume: Piece,
}

impl ThinPool {
    /// Makes a pool of `bytes` that can grow to `whole` bytes, and a volume of `whole` bytes.
    pub fn new(scratch: &mut Scratch, bytes: u64, whole: u64) -> Result<Self> {
        let mut data = scratch.cut(whole)?;
        let whole = data.sectors;
        data.sectors = bytes / SECTOR;
        let data = Mapping::new("pool-data", data, Table::Plain)?;
        let meta = Mapping::new("pool-meta", scratch.cut(META_BYTES)?, Table::Plain)?;
        // A first block of zeros makes the pool start with nothing.
        File::options()
            .write(true)
            .open(meta.path())?
            .write_all(&[0; 4096])?;
        let mut pool = Self {
            volume: Piece {
                device: data.path().to_owned(),
                start: 0,
                sectors: whole,
            },
            data,
            meta,
            whole,
        };
        dmsetup(&["create", POOL, "--table", &pool.line()])?;
        dmsetup(&["message", POOL, "0", "create_thin 0"])?;
        let above = node(POOL)?.display().to_string();
        let line = format!("0 {whole} thin {above} 0");
        dmsetup(&["create", VOLUME, "--table", &line])?;
        pool.volume.device = node(VOLUME)?;
        Ok(pool)
    }

    fn line(&self) -> String {
        let (sectors, meta, data) = (
            self.data.piece().sectors,
            self.meta.path().display(),
            self.data.path().display(),
        );
        // Says at once that it is full, instead of waiting for more.
        format!("0 {sectors} thin-pool {meta} {data} {CHUNK} 0 1 error_if_no_space")
    }

    /// The volume.
    pub fn volume(&self) -> Piece {
        self.volume.clone()
    }

    /// Bytes that the pool has left.
    pub fn free(&self) -> Result<u64> {
        let status = run("dmsetup", &["status", POOL])?;
        // start length thin-pool transaction used/total used/total …: the second is data.
        let data = status.split_whitespace().nth(5);
        let (used, total) = data
            .and_then(|field| field.split_once('/'))
            .with_context(|| format!("not a pool's status: {status}"))?;
        let chunks = total.parse::<u64>()?.saturating_sub(used.parse()?);
        Ok(chunks * CHUNK * SECTOR)
    }

    /// Gives the pool all the room it promised.
    pub fn grow(&mut self) -> Result<()> {
        self.data.grow(self.whole)?;
        dmsetup(&["load", POOL, "--table", &self.line()])?;
        dmsetup(&["suspend", "--noflush", "--nolockfs", POOL])?;
        dmsetup(&["resume", POOL]).map(drop)
    }
}

impl Drop for ThinPool {
    fn drop(&mut self) {
        remove(VOLUME);
        remove(POOL);
    }
}
