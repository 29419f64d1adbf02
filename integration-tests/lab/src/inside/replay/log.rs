// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The log that dm-log-writes leaves on its second device.
//!
//! One sector of header, then entry after entry: a sector that says what was done, followed by
//! the data of a write. Numbers are little endian; places and lengths count the disk's logical
//! sectors.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;

const FLUSH: u64 = 1;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;

/// Bytes of an entry before a mark's text.
const HEAD: usize = 32;

/// The mark that the kernel itself sets when the device is removed. A log without it ran out
/// of room, or is still being written.
const END: &str = "dm-log-writes-end";

/// What an entry did to the disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum What {
    /// It wrote.
    Write,
    /// It gave sectors back; they read as zeros here.
    Discard,
    /// Nothing: an empty flush.
    Nothing,
    /// Nothing: a word from outside.
    Mark(String),
}

/// One entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// What it did.
    pub what: What,
    /// All writes before it in the log are durable once it is.
    pub flush: bool,
    /// It was durable itself when it ended.
    pub fua: bool,
    /// Where it did it, in bytes.
    pub at: u64,
    /// To how many bytes.
    pub bytes: u64,
    data_at: u64,
}

impl Entry {
    /// The text of a mark.
    pub fn mark(&self) -> Option<&str> {
        match &self.what {
            What::Mark(text) => Some(text),
            _ => None,
        }
    }

    /// It changes the disk.
    pub fn changes(&self) -> bool {
        matches!(self.what, What::Write | What::Discard)
    }
}

/// A complete log.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
    /// What happened, in the order in which it became durable.
    pub entries: Vec<Entry>,
}

impl Log {
    /// Reads the log on `path`, of a disk of `disk` bytes.
    pub fn open(path: &Path, disk: u64) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        let mut log = Self {
            file,
            path: path.to_owned(),
            entries: Vec::new(),
        };
        log.read(disk)
            .with_context(|| format!("the log on {name}"))?;
        Ok(log)
    }

    fn read(&mut self, disk: u64) -> Result<()> {
        let mut head = [0; HEAD];
        self.file.read_exact_at(&mut head, 0)?;
        let [magic, version, count, _] = words(&head);
        let sector = u64::from(u32::from_le_bytes([head[24], head[25], head[26], head[27]]));
        ensure!(magic == MAGIC, "no log of dm-log-writes: {magic:#x}");
        ensure!(
            version == VERSION,
            "version {version}, this reads {VERSION}"
        );
        ensure!(
            sector.is_power_of_two() && (512..=4096).contains(&sector),
            "a sector of {sector} bytes"
        );
        let mut place = sector;
        for number in 0..count {
            let entry = self
                .entry(place, sector)
                .with_context(|| format!("entry {number} of {count}"))?;
            let end = entry.at.checked_add(entry.bytes);
            ensure!(
                end.is_some_and(|end| end <= disk),
                "entry {number} ends beyond the disk: {entry:?}"
            );
            place += sector;
            if entry.what == What::Write {
                place += entry.bytes;
            }
            self.entries.push(entry);
        }
        match self.entries.last().and_then(Entry::mark) {
            Some(END) => Ok(()),
            _ => bail!("not complete after {count} entries: the kernel ceased to log"),
        }
    }

    fn entry(&self, place: u64, sector: u64) -> Result<Entry> {
        let mut head = [0; HEAD];
        self.file.read_exact_at(&mut head, place)?;
        let [at, sectors, flags, text] = words(&head);
        let [at, bytes] = [at, sectors].map(|count| count.saturating_mul(sector));
        let what = if flags & MARK != 0 {
            let mut bytes = vec![0; usize::try_from(text.min(sector))?];
            self.file.read_exact_at(&mut bytes, place + 32)?;
            What::Mark(String::from_utf8(bytes).context("a mark that is no text")?)
        } else if flags & DISCARD != 0 {
            What::Discard
        } else if sectors > 0 {
            What::Write
        } else {
            What::Nothing
        };
        Ok(Entry {
            what,
            flush: flags & FLUSH != 0,
            fua: flags & FUA != 0,
            at,
            bytes,
            data_at: place + sector,
        })
    }

    /// What a write wrote.
    pub fn data(&self, entry: &Entry) -> Result<Vec<u8>> {
        let mut data = vec![0; usize::try_from(entry.bytes)?];
        self.file
            .read_exact_at(&mut data, entry.data_at)
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(data)
    }

    /// Bytes that were written.
    pub fn written(&self) -> u64 {
        let writes = self.entries.iter().filter(|one| one.what == What::Write);
        writes.map(|write| write.bytes).sum()
    }

    /// The places of the marks that begin with this text.
    pub fn marked(&self, text: &str) -> Vec<usize> {
        let entries = self.entries.iter().enumerate();
        let marked =
            entries.filter(|(_, entry)| entry.mark().is_some_and(|mark| mark.starts_with(text)));
        marked.map(|(place, _)| place).collect()
    }

    /// The place of the mark with this text.
    pub fn find(&self, text: &str) -> Result<usize> {
        self.entries
            .iter()
            .position(|entry| entry.mark() == Some(text))
            .with_context(|| format!("the log has no mark `{text}`"))
    }
}

fn words(head: &[u8; HEAD]) -> [u64; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(head.chunks_exact(8)) {
        let mut eight = [0; 8];
        eight.copy_from_slice(bytes);
        *word = u64::from_le_bytes(eight);
    }
    words
}

/// Logs made by hand, for tests.
#[cfg(test)]
pub mod samples {
    use tempfile::NamedTempFile;

    use super::*;

    /// Collects entries as the kernel writes them.
    pub struct Writer {
        bytes: Vec<u8>,
        count: u64,
        sector: usize,
    }

    impl Writer {
        pub fn new(sector: usize) -> Self {
            Self {
                bytes: vec![0; sector],
                count: 0,
                sector,
            }
        }

        fn push(&mut self, words: [u64; 4], text: &[u8], data: &[u8]) -> &mut Self {
            let mut head: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            head.extend(text);
            head.resize(self.sector, 0);
            self.bytes.extend(head);
            self.bytes.extend(data);
            self.count += 1;
            self
        }

        pub fn write(&mut self, sector: u64, data: &[u8], flags: u64) -> &mut Self {
            let count = u64::try_from(data.len() / self.sector).unwrap();
            self.push([sector, count, flags, 0], &[], data)
        }

        pub fn fill(&mut self, sector: u64, byte: u8) -> &mut Self {
            let data = vec![byte; self.sector];
            self.write(sector, &data, 0)
        }

        pub fn fua(&mut self, sector: u64, byte: u8) -> &mut Self {
            let data = vec![byte; self.sector];
            self.write(sector, &data, FUA)
        }

        pub fn discard(&mut self, sector: u64, sectors: u64) -> &mut Self {
            self.push([sector, sectors, DISCARD, 0], &[], &[])
        }

        pub fn flush(&mut self) -> &mut Self {
            self.push([0, 0, FLUSH, 0], &[], &[])
        }

        pub fn mark(&mut self, text: &str) -> &mut Self {
            let length = u64::try_from(text.len()).unwrap();
            self.push([0, 0, MARK, length], text.as_bytes(), &[])
        }

        pub fn file(&self) -> NamedTempFile {
            let mut bytes = self.bytes.clone();
            bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
            bytes[8..16].copy_from_slice(&VERSION.to_le_bytes());
            bytes[16..24].copy_from_slice(&self.count.to_le_bytes());
            let sector = u32::try_from(self.sector).unwrap();
            bytes[24..28].copy_from_slice(&sector.to_le_bytes());
            let file = NamedTempFile::new().unwrap();
            file.as_file().write_all_at(&bytes, 0).unwrap();
            file
        }

        pub fn log(&mut self) -> Log {
            self.mark(END);
            Log::open(self.file().path(), 1 << 20).unwrap()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::samples::Writer;
    use super::*;

    #[test]
    fn entries_are_read_with_their_data_for_any_sector_size() {
        for sector in [512, 4096] {
            let mut writer = Writer::new(sector);
            writer.fill(3, 7).discard(8, 2).flush().fua(5, 9).mark("x");
            let log = writer.log();
            let size = u64::try_from(sector).unwrap();
            let seen: Vec<_> = log
                .entries
                .iter()
                .map(|one| (one.at / size, one.bytes / size, one.flush, one.fua))
                .collect();
            assert_eq!(
                seen[..5],
                [
                    (3, 1, false, false),
                    (8, 2, false, false),
                    (0, 0, true, false),
                    (5, 1, false, true),
                    (0, 0, false, false)
                ]
            );
            assert_eq!(log.data(&log.entries[0]).unwrap(), vec![7; sector]);
            assert_eq!(log.data(&log.entries[3]).unwrap(), vec![9; sector]);
            assert_eq!(log.entries[1].what, What::Discard);
            assert_eq!(log.find("x").unwrap(), 4);
            log.find("y").unwrap_err();
            assert_eq!((log.marked("x"), log.marked("y")), (vec![4], vec![]));
        }
    }

    #[test]
    fn a_log_that_ran_out_of_room_is_refused() {
        let mut writer = Writer::new(512);
        let file = writer.fill(1, 1).flush().file();
        let error = Log::open(file.path(), 1 << 20).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("not complete after 2 entries"), "{text}");
    }

    #[test]
    fn what_is_no_log_is_refused() {
        let mut writer = Writer::new(512);
        let file = writer.fill(1, 1).mark(END).file();
        let error = Log::open(file.path(), 512).unwrap_err();
        assert!(format!("{error:#}").contains("beyond the disk"));
        file.as_file().write_all_at(b"x", 0).unwrap();
        let error = Log::open(file.path(), 1 << 20).unwrap_err();
        assert!(format!("{error:#}").contains("no log of dm-log-writes"));
    }
}
