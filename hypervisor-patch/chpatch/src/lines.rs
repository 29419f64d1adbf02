// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Line ranges, and the text form of an edit's new lines.
//!
//! A lines file has a line `@ N` for the edit's N-th range, counted from 1, and
//! under it the lines that come in that range's place, each after a `+`. A last
//! line without newline is followed by `\ no newline at end`. There is no other
//! kind of line: none for context, none for what was there before.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const NO_NEWLINE: &[u8] = b"\\ no newline at end";

/// The lines of `content`, each with its newline; only the last may lack one.
pub fn split(content: &[u8]) -> Vec<&[u8]> {
    content.split_inclusive(|byte| *byte == b'\n').collect()
}

/// A range of a file's lines. Written `120-123`, `120` for one line, and `40+`
/// for the empty range after line 40 (`0+` is before the first line).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span {
    /// How many lines come before the range.
    pub start: usize,
    /// How many lines the range has.
    pub len: usize,
}

impl Span {
    /// How many lines come before the range's end; `None` if that is no number.
    pub fn end(self) -> Option<usize> {
        self.start.checked_add(self.len)
    }
}

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.len {
            0 => write!(f, "{}+", self.start),
            1 => write!(f, "{}", self.start + 1),
            _ => write!(f, "{}-{}", self.start + 1, self.start + self.len),
        }
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("'{text}' is no line range: '12-14', '12' or '12+' (after 12) is");
        let number = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) {
            true => digits.parse::<usize>().map_err(|_| bad()),
            false => Err(bad()),
        };
        let span = if let Some(after) = text.strip_suffix('+') {
            Self {
                start: number(after)?,
                len: 0,
            }
        } else {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last) = (number(first)?, number(last)?);
            if first == 0 || last < first {
                return Err(bad());
            }
            Self {
                start: first - 1,
                len: last - first + 1,
            }
        };
        // One way to write a range, so that a series has one form only.
        if span.end().is_none() || span.to_string() != text {
            return Err(bad());
        }
        Ok(span)
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

/// The lines file of an edit whose N-th range becomes `hunks[N - 1]`.
pub fn render(hunks: &[Vec<u8>]) -> Vec<u8> {
    let mut text = Vec::new();
    for (index, hunk) in hunks.iter().enumerate() {
        text.extend(format!("@ {}\n", index + 1).as_bytes());
        for line in split(hunk) {
            text.push(b'+');
            text.extend(line);
            if !line.ends_with(b"\n") {
                text.push(b'\n');
                text.extend(NO_NEWLINE);
                text.push(b'\n');
            }
        }
    }
    text
}

/// Reads a lines file: one element for each range, empty where lines only go.
///
/// # Errors
/// A text that names the line which is neither `@ N` with the next number, nor a
/// new line, nor the mark for a missing last newline.
pub fn parse(text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut hunks: Vec<Vec<u8>> = Vec::new();
    let mut ended = false;
    for (index, line) in split(text).into_iter().enumerate() {
        let number = index + 1;
        let Some(line) = line.strip_suffix(b"\n") else {
            return Err(format!("line {number} has no newline"));
        };
        if ended {
            return Err(format!(
                "line {number} comes after '\\ no newline at end', which must be the last"
            ));
        }
        let next = format!("@ {}", hunks.len() + 1);
        if line == next.as_bytes() {
            hunks.push(Vec::new());
            continue;
        }
        match (hunks.last_mut(), line.split_first()) {
            (Some(hunk), Some((b'+', new))) => {
                hunk.extend(new);
                hunk.push(b'\n');
            }
            (Some(hunk), _) if line == NO_NEWLINE && !hunk.is_empty() => {
                hunk.pop();
                ended = true;
            }
            _ => {
                return Err(format!(
                    "line {number} is neither '{next}' nor a new line after '+'"
                ));
            }
        }
    }
    Ok(hunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_in_one_way() {
        for text in ["1", "120-123", "40+", "0+"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "0",
            "2-1",
            "1-1",
            "+",
            "-",
            "1-",
            "-1",
            "+1",
            "01",
            "1 ",
            "1,2",
            "0-1",
            "99999999999999999999",
            "18446744073709551615-18446744073709551615",
        ] {
            assert!(bad.parse::<Span>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn lines_files_round_trip() {
        for hunks in [
            vec![],
            vec![b"a\nb\n".to_vec()],
            vec![vec![], b"@ 2\n+x\n\\ no newline at end\n".to_vec()],
            vec![b"crlf\r\n\n".to_vec(), b"last".to_vec()],
        ] {
            assert_eq!(parse(&render(&hunks)), Ok(hunks));
        }
    }

    #[test]
    fn a_lines_file_has_no_place_for_other_lines() {
        for bad in [
            "+no range yet\n",
            "@ 1\n-removed\n",
            "@ 1\n context\n",
            "@ 1\n\n",
            "@ 1\n# remark\n",
            "@ 2\n+x\n",
            "@ 1\n+x\n@ 1\n+y\n",
            "@ 1 fn context()\n+x\n",
            "@ 1\n\\ no newline at end\n",
            "@ 1\n+x\n\\ no newline at end\n+y\n",
            "@ 1\n+x\n\\ No newline at end of file\n",
            "@ 1\n+x",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?} was accepted");
        }
    }
}
