// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Making an edit from two versions of a file, and a version from an edit.

use similar::{Algorithm, DiffOp, capture_diff_slices};

use crate::lines::{Span, split};

/// Which ranges of a pre-image become which new lines.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Edit {
    /// Ranges of the pre-image, ascending, no two touching.
    pub at: Vec<Span>,
    /// For each range, the lines that come in its place.
    pub hunks: Vec<Vec<u8>>,
}

impl Edit {
    /// The edit that makes `new` of `old`.
    pub fn between(old: &[u8], new: &[u8]) -> Self {
        let (old, new) = (split(old), split(new));
        let mut edit = Self::default();
        for op in capture_diff_slices(Algorithm::Myers, &old, &new) {
            if let DiffOp::Equal { .. } = op {
                continue;
            }
            let (from, to) = (op.old_range(), op.new_range());
            let hunk = new[to].concat();
            match edit.at.last_mut() {
                // Neighbours are one range: a series has one form only.
                Some(last) if last.start + last.len == from.start => {
                    last.len += from.len();
                    edit.hunks
                        .last_mut()
                        .into_iter()
                        .for_each(|h| h.extend(&hunk));
                }
                _ => {
                    edit.at.push(Span {
                        start: from.start,
                        len: from.len(),
                    });
                    edit.hunks.push(hunk);
                }
            }
        }
        edit
    }

    /// Checks what can be checked without a pre-image.
    ///
    /// # Errors
    /// Ranges that are not ascending or touch one another, or do not match the
    /// new lines in number, or a range that changes nothing.
    pub fn verify(&self) -> Result<(), String> {
        if self.at.len() != self.hunks.len() {
            return Err(format!(
                "{} ranges, but new lines for {}",
                self.at.len(),
                self.hunks.len()
            ));
        }
        if let Some(pair) = self
            .at
            .windows(2)
            .find(|pair| pair[0].end().is_none_or(|end| end >= pair[1].start))
        {
            return Err(format!("range {} does not lie after {}", pair[1], pair[0]));
        }
        match self
            .at
            .iter()
            .zip(&self.hunks)
            .find(|(at, hunk)| at.len == 0 && hunk.is_empty())
        {
            Some((at, _)) => Err(format!("nothing is put at {at}")),
            None => Ok(()),
        }
    }

    /// What the edit makes of `old`.
    ///
    /// # Errors
    /// A range that `old` does not have.
    pub fn apply(&self, old: &[u8]) -> Result<Vec<u8>, String> {
        let old = split(old);
        let mut new = Vec::new();
        let mut kept = 0;
        for (at, hunk) in self.at.iter().zip(&self.hunks) {
            let end = at.end().filter(|end| *end <= old.len());
            let (Some(before), Some(end)) = (old.get(kept..at.start), end) else {
                return Err(format!("has {} lines and so no range {at}", old.len()));
            };
            new.extend(before.concat());
            new.extend(hunk);
            kept = end;
        }
        new.extend(old[kept..].concat());
        Ok(new)
    }

    /// The new lines, each with its number in the file that the edit makes.
    pub fn new_lines(&self) -> Vec<(usize, &[u8])> {
        let (mut lines, mut put, mut gone) = (Vec::new(), 0, 0);
        for (at, hunk) in self.at.iter().zip(&self.hunks) {
            let first = (at.start + put).saturating_sub(gone) + 1;
            let hunk = split(hunk);
            put += hunk.len();
            gone += at.len;
            lines.extend((first..).zip(hunk));
        }
        lines
    }
}

/// Whether so little of `old` is left in `new` that whoever reads the series is
/// better served by the whole new file: less than a quarter of the new file's
/// lines of more than punctuation come from the old one.
pub fn is_rewrite(old: &[u8], new: &[u8]) -> bool {
    let (old, new) = (split(old), split(new));
    let significant = |line: &&&[u8]| {
        line.iter()
            .filter(|byte| byte.is_ascii_alphanumeric())
            .count()
            > 2
    };
    let kept: usize = capture_diff_slices(Algorithm::Myers, &old, &new)
        .into_iter()
        .filter(|op| matches!(op, DiffOp::Equal { .. }))
        .map(|op| new[op.new_range()].iter().filter(significant).count())
        .sum();
    kept * 4 < new.iter().filter(significant).count()
}

/// Those of the numbered lines `new` that also stand in `old`, apart from the
/// white space around them, and have enough letters to be more than a
/// coincidence. A moved or re-indented upstream line shows up here.
pub fn quoted<'a>(
    old: &[u8],
    new: impl IntoIterator<Item = (usize, &'a [u8])>,
) -> Vec<(usize, &'a [u8])> {
    let letters = |line: &[u8]| {
        line.iter()
            .filter(|byte| byte.is_ascii_alphanumeric())
            .count()
    };
    let old = split(old);
    new.into_iter()
        .filter(|(_, line)| letters(line) >= 12)
        .map(|(number, line)| (number, line.trim_ascii()))
        .filter(|(_, line)| old.iter().any(|other| other.trim_ascii() == *line))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(old: &[u8], new: &[u8]) -> Edit {
        let edit = Edit::between(old, new);
        edit.verify().unwrap();
        assert_eq!(edit.apply(old).unwrap(), new);
        edit
    }

    #[test]
    fn an_edit_holds_only_new_lines() {
        let edit = round_trip(b"a\nb\nc\nd\n", b"a\nB\nc\nd\ne\n");
        assert_eq!(
            edit.at.iter().map(Span::to_string).collect::<Vec<_>>(),
            ["2", "4+"]
        );
        assert_eq!(edit.hunks, [b"B\n".to_vec(), b"e\n".to_vec()]);
    }

    #[test]
    fn line_ends_are_content() {
        round_trip(b"a\r\nb\r\n", b"a\r\nb\n");
        round_trip(b"a\nb", b"a\nb\n");
        round_trip(b"a\nb\n", b"a\nb");
        round_trip(b"", b"x");
        round_trip(b"x\n", b"");
    }

    #[test]
    fn ranges_outside_of_the_file_are_refused() {
        let edit = Edit {
            at: vec!["3-4".parse().unwrap()],
            hunks: vec![vec![]],
        };
        edit.apply(b"1\n2\n3\n").unwrap_err();
        edit.apply(b"").unwrap_err();
        assert_eq!(edit.apply(b"1\n2\n3\n4\n").unwrap(), b"1\n2\n");
    }

    #[test]
    fn ranges_that_overlap_touch_or_do_nothing_are_refused() {
        for (at, hunks) in [
            (vec!["3-4", "4"], vec!["x\n", "y\n"]),
            (vec!["3-4", "5"], vec!["x\n", "y\n"]),
            (vec!["5", "2"], vec!["x\n", "y\n"]),
            (vec!["5+"], vec![""]),
            (vec!["5"], vec![]),
        ] {
            let edit = Edit {
                at: at.iter().map(|text| text.parse().unwrap()).collect(),
                hunks: hunks.iter().map(|text| text.as_bytes().to_vec()).collect(),
            };
            assert!(edit.verify().is_err(), "{at:?} was accepted");
        }
    }

    #[test]
    fn a_file_written_anew_is_a_rewrite() {
        assert!(is_rewrite(
            b"fn one() {\n}\n",
            b"fn another() {\n    body\n}\n"
        ));
        assert!(!is_rewrite(
            b"one line\ntwo line\n",
            b"one line\ntwo line\nthree line\n"
        ));
    }

    #[test]
    fn moved_lines_are_noticed() {
        let old = b"    let answer = compute(question);\n}\n";
        let new = b"if ready {\n        let answer = compute(question);\n}\n";
        let edit = Edit::between(old, new);
        assert_eq!(
            quoted(old, edit.new_lines()),
            [(2, b"let answer = compute(question);".as_slice())]
        );
    }

    #[test]
    fn new_lines_have_their_numbers_in_the_new_file() {
        let old = b"a\nb\nc\nd\ne\nf\n";
        let new = b"A\nA2\nb\ne\nE\nf\nG";
        let edit = round_trip(old, new);
        let lines: Vec<_> = (1..).zip(split(new)).collect();
        let expected = [lines[0], lines[1], lines[4], lines[6]];
        assert_eq!(edit.new_lines(), expected);
    }
}
