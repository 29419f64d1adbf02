// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The content of a data block: it names itself.
//!
//! A block of 4096 bytes follows from its [`Tag`] alone, so whoever knows the tag knows
//! every byte. Each 512-byte sector carries the tag too, because a disk that loses power
//! tears a block between sectors:
//!
//! | word (u64, little endian) | content |
//! |---|---|
//! | 0 | [`MAGIC`] |
//! | 1 | seed |
//! | 2 | block |
//! | 3 | sequence number |
//! | 4 | sector, 0 to 7 |
//! | 5 to 62 | a mix of all of the above and the word's place |
//! | 63 | CRC-32 of words 0 to 62, the upper half its complement |

/// Bytes in a block.
pub const BLOCK: usize = 4096;

/// Bytes in a sector, the largest piece that a disk writes at once.
pub const SECTOR: usize = 512;

/// The first word of every sector.
pub const MAGIC: u64 = u64::from_le_bytes(*b"pmflblk1");

const WORD: usize = 8;
const SECTORS: usize = BLOCK / SECTOR;
const BODY: usize = 5;
const LAST: usize = SECTOR / WORD - 1;

/// The bytes of a block.
pub type Block = [u8; BLOCK];

/// What decides a block's content.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tag {
    /// The load's seed.
    pub seed: u64,
    /// The block's number in the load, from 0.
    pub block: u64,
    /// Which write to this block, from 1.
    pub seq: u64,
}

/// A finalizer of splitmix64's kind: every input bit changes about half of the output bits.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Writes the content that `tag` stands for.
pub fn fill(block: &mut Block, tag: Tag) {
    let key = mix(tag.seed ^ mix(tag.block ^ mix(tag.seq)));
    for (index, sector) in (0u64..).zip(block.chunks_exact_mut(SECTOR)) {
        let mut words = [0u64; LAST + 1];
        words[..BODY].copy_from_slice(&[MAGIC, tag.seed, tag.block, tag.seq, index]);
        for (place, word) in (0u64..).zip(&mut words[BODY..LAST]) {
            *word = mix(key ^ (index << 32) ^ place);
        }
        for (bytes, word) in sector.chunks_exact_mut(WORD).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let sum = seal(&sector[..LAST * WORD]);
        sector[LAST * WORD..].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Returns the content that `tag` stands for.
pub fn content(tag: Tag) -> Box<Block> {
    let mut block = Box::new([0; BLOCK]);
    fill(&mut block, tag);
    block
}

fn seal(bytes: &[u8]) -> u64 {
    let crc = crc32fast::hash(bytes);
    u64::from(crc) | (u64::from(!crc) << 32)
}

fn word(sector: &[u8], index: usize) -> u64 {
    let mut bytes = [0; WORD];
    bytes.copy_from_slice(&sector[index * WORD..(index + 1) * WORD]);
    u64::from_le_bytes(bytes)
}

/// Returns the tag of each sector that is whole, or `None` where it is not.
pub fn sectors(block: &Block) -> [Option<Tag>; SECTORS] {
    let mut tags = [None; SECTORS];
    for ((index, tag), sector) in (0u64..).zip(&mut tags).zip(block.chunks_exact(SECTOR)) {
        let whole = word(sector, 0) == MAGIC
            && word(sector, 4) == index
            && word(sector, LAST) == seal(&sector[..LAST * WORD]);
        if whole {
            *tag = Some(Tag {
                seed: word(sector, 1),
                block: word(sector, 2),
                seq: word(sector, 3),
            });
        }
    }
    tags
}

/// Returns the tag of a block if all of it is that tag's content.
pub fn tag(block: &Block) -> Option<Tag> {
    let tag = sectors(block)[0]?;
    (*content(tag) == *block).then_some(tag)
}

/// Tells whether each 8-byte word of `block` is that of one of `candidates`.
///
/// A copy that is stopped half-way, by a paused CPU or a power cut, leaves old and new words
/// side by side; words are stored whole.
pub fn made_of(block: &Block, candidates: &[Tag]) -> bool {
    let contents: Vec<_> = candidates.iter().map(|&tag| content(tag)).collect();
    (0..BLOCK).step_by(WORD).all(|at| {
        contents
            .iter()
            .any(|content| content[at..at + WORD] == block[at..at + WORD])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: Tag = Tag {
        seed: 7,
        block: 11,
        seq: 3,
    };

    #[test]
    fn a_block_names_itself() {
        assert_eq!(tag(&content(TAG)), Some(TAG));
        assert_eq!(sectors(&content(TAG)), [Some(TAG); SECTORS]);
    }

    #[test]
    fn tags_that_differ_in_one_field_share_no_body_word() {
        let first = content(TAG);
        for other in [
            Tag { seed: 8, ..TAG },
            Tag { block: 12, ..TAG },
            Tag { seq: 4, ..TAG },
        ] {
            let second = content(other);
            for sector in 0..SECTORS {
                for index in BODY..=LAST {
                    let at = sector * SECTOR + index * WORD;
                    assert_ne!(
                        first[at..at + WORD],
                        second[at..at + WORD],
                        "{other:?} at {at}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_seen() {
        for at in [0, 8, 100, 511, 512, 4095] {
            let mut block = content(TAG);
            block[at] ^= 1;
            assert_eq!(tag(&block), None, "byte {at}");
            assert!(!made_of(&block, &[TAG]), "byte {at}");
            assert_eq!(sectors(&block)[at / SECTOR], None, "byte {at}");
        }
    }

    #[test]
    fn a_torn_block_is_made_of_both_and_of_neither_alone() {
        let next = Tag { seq: 4, ..TAG };
        let mut block = content(TAG);
        block[..1000].copy_from_slice(&content(next)[..1000]);
        assert!(made_of(&block, &[TAG, next]));
        assert!(!made_of(&block, &[TAG]));
        assert!(!made_of(&block, &[next]));
        assert_eq!(tag(&block), None);
    }

    #[test]
    fn zeros_are_nobodys() {
        assert_eq!(sectors(&[0; BLOCK]), [None; SECTORS]);
    }
}
