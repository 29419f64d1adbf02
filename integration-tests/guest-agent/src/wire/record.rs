// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Framing: how a record is told from other text, and a whole one from a damaged one.

use std::marker::PhantomData;
use std::mem;

use crc32fast::Hasher;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use thiserror::Error;

/// The byte that starts a record (RFC 7464). JSON never holds it unescaped.
pub const MARK: u8 = 0x1e;

/// The longest record in bytes, mark and line feed included. A longer one is damaged.
pub const MAX_RECORD: usize = 4 << 20;

/// The longest run of foreign text kept as one item.
const MAX_TEXT: usize = 16 << 10;

/// Why a record could not be written.
#[derive(Debug, Error)]
pub enum WireError {
    /// The body has no JSON form.
    #[error("cannot write the record as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The record is longer than [`MAX_RECORD`].
    #[error("the record has {0} bytes, at most {MAX_RECORD} are allowed")]
    TooLong(usize),
}

/// The outer object of a record.
#[derive(Deserialize, Serialize)]
struct Envelope<'a> {
    seq: u64,
    crc: u32,
    #[serde(borrow)]
    body: &'a RawValue,
}

fn checksum(seq: u64, body: &str) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&seq.to_le_bytes());
    hasher.update(body.as_bytes());
    hasher.finalize()
}

/// Returns the bytes of one record, from the mark to the line feed.
///
/// # Errors
///
/// The body has no JSON form, or the record would be longer than [`MAX_RECORD`].
pub fn encode<T: Serialize>(seq: u64, body: &T) -> Result<Vec<u8>, WireError> {
    let body = to_raw_value(body)?;
    let envelope = Envelope {
        seq,
        crc: checksum(seq, body.get()),
        body: &body,
    };
    let mut bytes = vec![MARK];
    serde_json::to_writer(&mut bytes, &envelope)?;
    bytes.push(b'\n');
    if bytes.len() > MAX_RECORD {
        return Err(WireError::TooLong(bytes.len()));
    }
    Ok(bytes)
}

/// What a [`Decoder`] found in the stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Item<T> {
    /// A whole record.
    Record {
        /// The sender's count of records, from 1.
        seq: u64,
        /// What it says.
        body: T,
    },
    /// A line that is no record: firmware, kernel.
    Text(String),
    /// A record that was cut, mixed with other text, or that this version does not know.
    Damaged {
        /// What was wrong with it.
        why: String,
        /// Its text, without the mark.
        text: String,
    },
}

/// Splits a byte stream into records and other text, whatever the sizes of the pieces.
#[derive(Debug)]
pub struct Decoder<T> {
    pending: Vec<u8>,
    in_record: bool,
    body: PhantomData<fn() -> T>,
}

impl<T> Default for Decoder<T> {
    fn default() -> Self {
        Self {
            pending: Vec::new(),
            in_record: false,
            body: PhantomData,
        }
    }
}

impl<T: DeserializeOwned> Decoder<T> {
    /// Returns a decoder that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream and returns what they complete, in order.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Item<T>> {
        let mut items = Vec::new();
        for &byte in bytes {
            match byte {
                MARK => {
                    self.end("a new record began before its end", &mut items);
                    self.in_record = true;
                }
                b'\n' if self.in_record => {
                    let line = mem::take(&mut self.pending);
                    self.in_record = false;
                    items.push(parse(&line));
                }
                b'\n' => self.end("", &mut items),
                _ => {
                    self.pending.push(byte);
                    let most = if self.in_record { MAX_RECORD } else { MAX_TEXT };
                    if self.pending.len() >= most {
                        self.end("it is too long", &mut items);
                    }
                }
            }
        }
        items
    }

    /// Ends the stream, for instance because it was closed: what is pending is text or a
    /// damaged record.
    pub fn finish(&mut self) -> Vec<Item<T>> {
        let mut items = Vec::new();
        self.end("the stream ended before its end", &mut items);
        items
    }

    /// Ends what is pending without a line feed of its own.
    fn end(&mut self, why: &str, items: &mut Vec<Item<T>>) {
        let line = mem::take(&mut self.pending);
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if mem::take(&mut self.in_record) {
            items.push(Item::Damaged {
                why: why.to_owned(),
                text,
            });
        } else if !text.is_empty() {
            items.push(Item::Text(text));
        }
    }
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Item<T> {
    let damaged = |why: String| Item::Damaged {
        why,
        text: String::from_utf8_lossy(line).trim_end().to_owned(),
    };
    let envelope: Envelope<'_> = match serde_json::from_slice(line) {
        Ok(envelope) => envelope,
        Err(error) => return damaged(format!("it is no record: {error}")),
    };
    let expected = checksum(envelope.seq, envelope.body.get());
    if envelope.crc != expected {
        return damaged(format!(
            "its checksum is {}, its text gives {expected}",
            envelope.crc
        ));
    }
    match serde_json::from_str(envelope.body.get()) {
        Ok(body) => Item::Record {
            seq: envelope.seq,
            body,
        },
        Err(error) => damaged(format!("its content is unknown: {error}")),
    }
}
