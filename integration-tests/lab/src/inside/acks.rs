// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A load's progress, read from its ack area on the host side.
//!
//! Asking the guest instead would cost it more than a flush does: each byte on
//! its serial line is an exit to the VMM.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use guest_agent::ack::{AckError, BlockAck, Bytes, Header, RECORD};

use crate::inside::wait;

/// An ack area: the place of one load's acks.
#[derive(Clone, Debug)]
pub struct Acks {
    /// The ack device's file.
    pub file: PathBuf,
    /// Where the area starts in it, in bytes.
    pub offset: u64,
}

impl Acks {
    /// The area at byte `offset` of `file`.
    pub fn new(file: &Path, offset: u64) -> Self {
        Self {
            file: file.to_owned(),
            offset,
        }
    }

    /// How many syncs have been acked, all threads; 0 before the load starts.
    pub fn fsyncs(&self) -> Result<u64> {
        let name = self.file.display();
        let file = File::open(&self.file).with_context(|| format!("cannot open {name}"))?;
        let read = |at| -> Result<Bytes> {
            let mut bytes = [0; RECORD];
            match file.read_exact_at(&mut bytes, self.offset + at) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok([0; RECORD]),
                done => done
                    .map(|()| bytes)
                    .with_context(|| format!("cannot read {name}")),
            }
        };
        let header = match Header::decode(&read(0)?, self.offset) {
            Ok(header) => header,
            Err(AckError::NoHeader(_)) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let mut threads = vec![0; usize::try_from(header.threads)?];
        for block in 0..header.blocks() {
            for copy in 0..2 {
                let Some(ack) = BlockAck::decode(&read(header.block_at(block, copy))?) else {
                    continue;
                };
                let thread = usize::try_from(ack.thread)?;
                if let (true, Some(most)) = (ack.run == header.run, threads.get_mut(thread)) {
                    *most = ack.counters.fsyncs.max(*most);
                }
            }
        }
        Ok(threads.iter().sum())
    }

    /// Waits until `more` further syncs have been acked.
    pub fn go_on(&self, more: u64, within: Duration) -> Result<()> {
        let from = self.fsyncs()?;
        wait::until(&format!("{more} more acked syncs"), within, || {
            Ok((self.fsyncs()? >= from + more).then_some(()))
        })
    }
}

#[cfg(test)]
mod tests {
    use guest_agent::ack::{Counters, Layout};
    use guest_agent::pattern::Tag;
    use tempfile::NamedTempFile;

    use super::*;

    fn header() -> Header {
        Header {
            run: 7,
            seed: 1,
            threads: 2,
            blocks_per_thread: 3,
            first_block: 0,
            layout: Layout::Raw,
        }
    }

    fn ack(run: u64, block: u64, fsyncs: u64) -> Bytes {
        let thread = u32::from(block >= 3);
        let tag = Tag {
            seed: 1,
            block,
            seq: 1,
        };
        BlockAck {
            run,
            thread,
            tag,
            content_crc: 0,
            time_ns: 0,
            counters: Counters {
                fsyncs,
                ..Counters::default()
            },
        }
        .encode()
    }

    #[test]
    fn the_highest_counter_of_each_thread_counts_and_other_runs_do_not() {
        let file = NamedTempFile::new().unwrap();
        let acks = Acks::new(file.path(), 4096);
        assert_eq!(acks.fsyncs().unwrap(), 0);
        let put = |bytes: Bytes, at| file.as_file().write_all_at(&bytes, 4096 + at).unwrap();
        put(header().encode(), 0);
        put(ack(7, 0, 4), header().block_at(0, 0));
        put(ack(7, 1, 5), header().block_at(1, 1));
        put(ack(7, 4, 10), header().block_at(4, 0));
        put(ack(6, 5, 99), header().block_at(5, 0));
        assert_eq!(acks.fsyncs().unwrap(), 15);
    }
}
