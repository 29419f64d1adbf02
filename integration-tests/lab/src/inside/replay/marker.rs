// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Watches a guest's acks, and marks in the log which of them were there.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use guest_agent::ack::{BlockAck, Bytes, Header, RECORD};

use crate::inside::replay::{Acked, Marks};

/// How often the acks are looked at. The guest stores them into memory: there is no event.
const EVERY: Duration = Duration::from_millis(2);

/// A thread that reads acks, and then sets a mark: what is acked at a mark was durable, and so
/// in the log, before it.
pub struct Marker {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<Option<Acked>>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    acks: AtomicU64,
}

impl Marker {
    /// Watches the area at the start of `file`.
    pub fn start(name: &str, file: &Path, marks: Marks) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let acks = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
        let (ours, name) = (Arc::clone(&shared), name.to_owned());
        let thread = thread::Builder::new()
            .name("marker".to_owned())
            .spawn(move || watch(&name, &acks, &marks, &ours))
            .context("cannot start the marker")?;
        Ok(Self { shared, thread })
    }

    /// How many acks it has seen and marked. It sees a block's last two at most, so this is less than
    /// there were.
    pub fn acks(&self) -> u64 {
        self.shared.acks.load(Ordering::Acquire)
    }

    /// It has met an error.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Takes a last look and ends.
    pub fn stop(self) -> Result<Acked> {
        self.shared.stop.store(true, Ordering::Release);
        let acked = self
            .thread
            .join()
            .map_err(|_| anyhow!("the marker panicked"))?;
        acked?.context("nothing was ever acked")
    }
}

fn watch(name: &str, file: &File, marks: &Marks, shared: &Shared) -> Result<Option<Acked>> {
    let mut seen: Option<(Acked, Area)> = None;
    loop {
        let last = shared.stop.load(Ordering::Acquire);
        match &mut seen {
            None => {
                let mut bytes: Bytes = [0; RECORD];
                file.read_exact_at(&mut bytes, 0)?;
                // Written last, when the rest of the area is laid out.
                seen = Header::decode(&bytes, 0)
                    .ok()
                    .map(|header| (Acked::new(name, header), Area::new(&header)));
            }
            Some((acked, area)) => {
                let new = area.look(file)?;
                if !new.is_empty() {
                    let count = u64::try_from(new.len())?;
                    marks.set(&acked.note(new))?;
                    shared.acks.fetch_add(count, Ordering::Release);
                }
            }
        }
        if last {
            return Ok(seen.map(|(acked, _)| acked));
        }
        thread::sleep(EVERY);
    }
}

/// The block records as they were last seen.
struct Area {
    from: u64,
    known: Vec<u8>,
    now: Vec<u8>,
}

impl Area {
    fn new(header: &Header) -> Self {
        let from = header.block_at(0, 0);
        let bytes = usize::try_from(header.area() - from).unwrap_or(0);
        Self {
            from,
            known: vec![0; bytes],
            now: vec![0; bytes],
        }
    }

    /// The records that have changed and are whole; one that is being written is seen next time.
    fn look(&mut self, file: &File) -> Result<Vec<(u64, Bytes)>> {
        file.read_exact_at(&mut self.now, self.from)?;
        let mut new = Vec::new();
        let pairs = self.now.chunks_exact(RECORD);
        for ((at, now), known) in (self.from..)
            .step_by(RECORD)
            .zip(pairs)
            .zip(self.known.chunks_exact_mut(RECORD))
        {
            if now == known {
                continue;
            }
            let mut record: Bytes = [0; RECORD];
            record.copy_from_slice(now);
            if BlockAck::decode(&record).is_some() {
                known.copy_from_slice(now);
                new.push((at, record));
            }
        }
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inside::replay::acked::samples::{ack, header};

    #[test]
    fn a_look_finds_new_whole_records_once() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(header().area()).unwrap();
        let mut area = Area::new(&header());
        assert!(area.look(&file).unwrap().is_empty());
        let place = |block, seq| header().block_at(block, seq);
        file.write_all_at(&ack(0, 1).encode(), place(0, 1)).unwrap();
        file.write_all_at(&ack(2, 1).encode()[..300], place(2, 1))
            .unwrap();
        assert_eq!(
            area.look(&file).unwrap(),
            [(place(0, 1), ack(0, 1).encode())]
        );
        file.write_all_at(&ack(2, 1).encode(), place(2, 1)).unwrap();
        assert_eq!(
            area.look(&file).unwrap(),
            [(place(2, 1), ack(2, 1).encode())]
        );
        assert!(area.look(&file).unwrap().is_empty());
    }
}
