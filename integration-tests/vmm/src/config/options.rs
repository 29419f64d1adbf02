// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `key=value,key=value`: the text of one flag, in cloud-hypervisor's syntax.
//!
//! A value may stand in double quotes; commas inside quotes or brackets do not end
//! it. Unlike there, a key given twice is refused: one of the two is a mistake.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use thiserror::Error;

/// A wrong flag.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{flag} {value}: {problem}")]
pub struct ConfigError {
    /// The flag, with its dashes.
    pub flag: &'static str,
    /// What the user gave.
    pub value: String,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

/// The keys and values of one flag.
#[derive(Debug)]
pub struct Options<'a> {
    flag: &'static str,
    input: &'a str,
    values: BTreeMap<&'static str, String>,
}

impl<'a> Options<'a> {
    /// Takes `input` apart. `keys` are the keys the flag knows.
    pub fn parse(
        flag: &'static str,
        input: &'a str,
        keys: &[&'static str],
    ) -> Result<Self, ConfigError> {
        let mut options = Self {
            flag,
            input,
            values: BTreeMap::new(),
        };
        let pieces = split_commas(input).ok_or_else(|| {
            options.error("a quote or a bracket is not closed; close it or leave it out")
        })?;
        for piece in pieces {
            let known = || keys.join(", ");
            let Some((key, value)) = piece.split_once('=') else {
                return Err(options.error(&format!(
                    "`{piece}` is not key=value; the keys are {}",
                    known()
                )));
            };
            let Some(&key) = keys.iter().find(|&&known| known == key.trim()) else {
                return Err(options.error(&format!(
                    "there is no key `{}`; the keys are {}",
                    key.trim(),
                    known()
                )));
            };
            let value = value.trim().replace('"', "");
            if value.is_empty() {
                return Err(options.error(&format!(
                    "`{key}` has no value; give {key}=VALUE or leave it out"
                )));
            }
            if options.values.insert(key, value).is_some() {
                return Err(options.error(&format!("`{key}` is given twice; give it once")));
            }
        }
        Ok(options)
    }

    /// An error about the whole flag.
    pub fn error(&self, problem: &str) -> ConfigError {
        ConfigError {
            flag: self.flag,
            value: self.input.to_owned(),
            problem: problem.to_owned(),
        }
    }

    /// The value of `key`, if the user gave it.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// The value of `key`, which has to be there; `example` shows one.
    pub fn require(&self, key: &str, example: &str) -> Result<&str, ConfigError> {
        self.get(key)
            .ok_or_else(|| self.error(&format!("`{key}` is missing; give {key}={example}")))
    }

    /// `on` or `off` (or `true`, `false`); off if not given.
    pub fn toggle(&self, key: &str) -> Result<bool, ConfigError> {
        match self.get(key).map(str::to_lowercase).as_deref() {
            None | Some("off" | "false") => Ok(false),
            Some("on" | "true") => Ok(true),
            Some(other) => Err(self.error(&format!("`{key}={other}` is wrong; give on or off"))),
        }
    }

    /// A value that says itself what would be right.
    pub fn parse_value<T: FromStr<Err: Display>>(
        &self,
        key: &str,
    ) -> Result<Option<T>, ConfigError> {
        self.get(key)
            .map(|text| {
                text.parse()
                    .map_err(|error| self.error(&format!("`{key}={text}` is wrong: {error}")))
            })
            .transpose()
    }

    /// A whole number from `min` to `max`.
    pub fn number(&self, key: &str, min: u64, max: u64) -> Result<Option<u64>, ConfigError> {
        let Some(text) = self.get(key) else {
            return Ok(None);
        };
        match text.parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(self.error(&format!(
                "`{key}={text}` is wrong; give a whole number from {min} to {max}"
            ))),
        }
    }

    /// Bytes: a whole number, optionally with K, M or G for KiB, MiB or GiB, of at least
    /// one `align` and a multiple of it.
    pub fn bytes(&self, key: &str, align: u64) -> Result<Option<u64>, ConfigError> {
        let Some(text) = self.get(key) else {
            return Ok(None);
        };
        let Some(bytes) = parse_bytes(text) else {
            return Err(self.error(&format!(
                "`{key}={text}` is wrong; give bytes as a whole number, or with K, M or G, \
                 such as {key}=512M"
            )));
        };
        if bytes == 0 || !bytes.is_multiple_of(align) {
            return Err(self.error(&format!(
                "`{key}={text}` is wrong; give a multiple of {} MiB, such as {key}=512M",
                align >> 20
            )));
        }
        Ok(Some(bytes))
    }
}

/// `512M` as bytes; `None` for what is no number or does not fit 64 bits.
fn parse_bytes(text: &str) -> Option<u64> {
    let (digits, unit) = match text.chars().last()? {
        'K' => (&text[..text.len() - 1], 1 << 10),
        'M' => (&text[..text.len() - 1], 1 << 20),
        'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// The pieces between the commas that are not in quotes or brackets; `None` if one
/// of these is not closed.
fn split_commas(input: &str) -> Option<Vec<&str>> {
    let mut pieces = Vec::new();
    let (mut start, mut brackets, mut quoted) = (0, 0_u32, false);
    for (at, c) in input.char_indices() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '[' => brackets += 1,
            ']' => brackets = brackets.checked_sub(1)?,
            ',' if brackets == 0 => {
                pieces.push(&input[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    pieces.push(&input[start..]);
    (!quoted && brackets == 0).then_some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[&str] = &["file", "size", "flag"];

    fn parse(input: &str) -> Result<Options<'_>, ConfigError> {
        Options::parse("--thing", input, KEYS)
    }

    fn refused(input: &str) -> String {
        parse(input).unwrap_err().to_string()
    }

    #[test]
    fn commas_in_quotes_and_brackets_belong_to_the_value() {
        let options = parse(r#"file="/a,b",size=[1,2]"#).unwrap();
        assert_eq!(options.get("file"), Some("/a,b"));
        assert_eq!(options.get("size"), Some("[1,2]"));
        assert_eq!(options.get("flag"), None);
        assert_eq!(parse("file=a=b").unwrap().get("file"), Some("a=b"));
    }

    #[test]
    fn a_mistake_names_flag_value_and_what_would_be_right() {
        assert_eq!(
            refused("fill=/a"),
            "--thing fill=/a: there is no key `fill`; the keys are file, size, flag"
        );
        assert_eq!(
            refused("/a"),
            "--thing /a: `/a` is not key=value; the keys are file, size, flag"
        );
        assert_eq!(
            refused("file=/a,,size=1"),
            "--thing file=/a,,size=1: `` is not key=value; the keys are file, size, flag"
        );
        assert_eq!(
            refused("file="),
            "--thing file=: `file` has no value; give file=VALUE or leave it out"
        );
        assert_eq!(
            refused("file=a,file=b"),
            "--thing file=a,file=b: `file` is given twice; give it once"
        );
        for open in ["file=\"a", "file=[a", "file=a]"] {
            assert!(
                refused(open).ends_with("close it or leave it out"),
                "{open}"
            );
        }
        assert_eq!(
            parse("size=1").unwrap().require("file", "/x").unwrap_err(),
            ConfigError {
                flag: "--thing",
                value: "size=1".to_owned(),
                problem: "`file` is missing; give file=/x".to_owned(),
            }
        );
    }

    #[test]
    fn a_toggle_is_on_or_off() {
        for (text, on) in [
            ("on", true),
            ("TRUE", true),
            ("off", false),
            ("false", false),
        ] {
            let input = format!("flag={text}");
            assert_eq!(parse(&input).unwrap().toggle("flag"), Ok(on), "{text}");
        }
        assert_eq!(parse("size=1").unwrap().toggle("flag"), Ok(false));
        assert_eq!(
            parse("flag=yes")
                .unwrap()
                .toggle("flag")
                .unwrap_err()
                .to_string(),
            "--thing flag=yes: `flag=yes` is wrong; give on or off"
        );
    }

    #[test]
    fn bytes_take_suffixes_and_keep_alignment() {
        let bytes = |text: &str| {
            parse(&format!("size={text}"))
                .unwrap()
                .bytes("size", 2 << 20)
        };
        assert_eq!(bytes("512M"), Ok(Some(512 << 20)));
        assert_eq!(bytes("1G"), Ok(Some(1 << 30)));
        assert_eq!(bytes("2048K"), Ok(Some(2 << 20)));
        assert_eq!(bytes("2097152"), Ok(Some(2 << 20)));
        for wrong in [
            "0",
            "1M",
            "3M",
            "M",
            "-2M",
            "2MM",
            "2m",
            "1.5G",
            "99999999999G",
            "é",
        ] {
            let problem = bytes(wrong).unwrap_err().problem;
            assert!(problem.ends_with("such as size=512M"), "{wrong}: {problem}");
        }
    }

    #[test]
    fn a_number_keeps_its_range() {
        let number = |text: &str| parse(&format!("size={text}")).unwrap().number("size", 1, 4);
        assert_eq!(number("1"), Ok(Some(1)));
        assert_eq!(number("4"), Ok(Some(4)));
        for wrong in ["0", "5", "-1", "x", "18446744073709551616"] {
            let problem = number(wrong).unwrap_err().problem;
            assert!(
                problem.ends_with("give a whole number from 1 to 4"),
                "{wrong}"
            );
        }
    }
}
