// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What was acked before each mark.

use guest_agent::ack::{BlockAck, Bytes, Header};

use crate::inside::replay::log::Entry;

/// The acks of one load, mark by mark.
pub struct Acked {
    header: Header,
    name: String,
    /// For each mark the records that were new before it, with their places in the area.
    marks: Vec<Vec<(u64, Bytes)>>,
}

impl Acked {
    /// Nothing acked yet. `name` tells this load's marks from those of others in one log.
    pub fn new(name: &str, header: Header) -> Self {
        Self {
            header,
            name: name.to_owned(),
            marks: Vec::new(),
        }
    }

    /// Notes records that were seen, and says which mark has to follow them in the log.
    pub fn note(&mut self, records: Vec<(u64, Bytes)>) -> String {
        self.marks.push(records);
        format!("{}{}", self.prefix(), self.marks.len() - 1)
    }

    /// Notes one ack, in the place that its writer would have given it.
    pub fn note_one(&mut self, ack: &BlockAck) -> String {
        let at = self.header.block_at(ack.tag.block, ack.tag.seq);
        self.note(vec![(at, ack.encode())])
    }

    fn prefix(&self) -> String {
        format!("ack-{}-", self.name)
    }

    /// How many marks there are.
    pub fn marks(&self) -> usize {
        self.marks.len()
    }

    /// Where this load's marks are in the log: entry and number.
    pub fn places(&self, entries: &[Entry]) -> Vec<(usize, usize)> {
        let prefix = self.prefix();
        let number = |entry: &Entry| entry.mark()?.strip_prefix(&prefix)?.parse().ok();
        entries
            .iter()
            .enumerate()
            .filter_map(|(index, entry)| Some((index, number(entry)?)))
            .filter(|(_, number)| *number < self.marks.len())
            .collect()
    }

    /// The entries of the log that are this load's marks.
    pub fn entries(&self, log: &[Entry]) -> Vec<usize> {
        self.places(log)
            .into_iter()
            .map(|(index, _)| index)
            .collect()
    }

    /// The ack area as it has been seen before mark `number`.
    pub fn area(&self, number: usize) -> Vec<u8> {
        let size = usize::try_from(self.header.area()).unwrap_or(0);
        let mut area = vec![0; size];
        let all = self.marks.iter().take(number + 1).flatten();
        let header = (0, self.header.encode());
        for (at, record) in all.chain([&header]) {
            let at = usize::try_from(*at).unwrap_or(size);
            if let Some(place) = area.get_mut(at..at + record.len()) {
                place.copy_from_slice(record);
            }
        }
        area
    }
}

#[cfg(test)]
pub mod samples {
    use guest_agent::ack::{Counters, Layout};
    use guest_agent::pattern::{Tag, content};

    use super::*;

    /// One thread, four blocks.
    pub fn header() -> Header {
        Header {
            run: 7,
            seed: 1,
            threads: 1,
            blocks_per_thread: 4,
            first_block: 0,
            layout: Layout::Raw,
        }
    }

    /// A block's write.
    pub fn tag(block: u64, seq: u64) -> Tag {
        Tag {
            seed: 1,
            block,
            seq,
        }
    }

    /// Its ack.
    pub fn ack(block: u64, seq: u64) -> BlockAck {
        BlockAck {
            run: 7,
            thread: 0,
            tag: tag(block, seq),
            content_crc: crc32fast::hash(content(tag(block, seq)).as_slice()),
            time_ns: 0,
            counters: Counters::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{ack, header};
    use super::*;
    use crate::inside::replay::log::samples::Writer;

    fn decoded(area: &[u8], block: u64, seq: u64) -> Option<BlockAck> {
        let at = usize::try_from(header().block_at(block, seq)).unwrap();
        BlockAck::decode(area[at..at + 512].try_into().unwrap())
    }

    #[test]
    fn an_area_holds_what_was_noted_up_to_its_mark() {
        let mut acked = Acked::new("a", header());
        assert_eq!(acked.note_one(&ack(0, 1)), "ack-a-0");
        assert_eq!(acked.note_one(&ack(2, 1)), "ack-a-1");
        assert_eq!(acked.note_one(&ack(0, 2)), "ack-a-2");
        let area = acked.area(1);
        assert_eq!(decoded(&area, 0, 1), Some(ack(0, 1)));
        assert_eq!(decoded(&area, 2, 1), Some(ack(2, 1)));
        assert_eq!(decoded(&area, 0, 2), None);
        assert_eq!(decoded(&acked.area(2), 0, 2), Some(ack(0, 2)));
        let start: Bytes = area[..512].try_into().unwrap();
        assert_eq!(Header::decode(&start, 0).unwrap(), header());
    }

    #[test]
    fn marks_of_other_loads_are_not_ours() {
        let mut acked = Acked::new("a", header());
        acked.note_one(&ack(0, 1));
        acked.note_one(&ack(0, 2));
        let mut writer = Writer::new(512);
        writer.mark("ack-a-0").mark("ack-b-1").mark("ack-ab-0");
        let log = writer.mark("ready").mark("ack-a-1").mark("ack-a-2").log();
        assert_eq!(acked.places(&log.entries), [(0, 0), (4, 1)]);
        assert_eq!(acked.entries(&log.entries), [0, 4]);
    }
}
