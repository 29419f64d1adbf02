// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `--pmem …,fault=…`: a device with a bad character, for tests of the guest's driver.

use serde::{Deserialize, Serialize};

/// How late an answer is if the user does not say, in milliseconds.
const DEFAULT_LATE_MS: u64 = 1000;

/// The latest answer a user can ask for, in milliseconds.
const MAX_LATE_MS: u64 = 600_000;

/// What the device does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Fault {
    /// A flush is never answered.
    Silent,
    /// A flush is answered so many milliseconds late.
    Late {
        /// The delay in milliseconds.
        ms: u64,
    },
    /// A flush is answered twice.
    Double,
    /// The used entry names a descriptor the driver never sent.
    BadCookie,
    /// The used entry says that nothing was written.
    Len0,
    /// A flush is answered with this status.
    Status {
        /// The status word as the driver reads it.
        code: u32,
    },
}

impl Fault {
    /// Reads the key's value; the error says what would be right.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, argument) = match text.split_once('=') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        match (name, argument) {
            ("silent", None) => Ok(Self::Silent),
            ("late", None) => Ok(Self::Late {
                ms: DEFAULT_LATE_MS,
            }),
            ("late", Some(ms)) => match ms.parse() {
                Ok(ms) if ms <= MAX_LATE_MS => Ok(Self::Late { ms }),
                _ => Err(format!(
                    "`fault={text}` is wrong; give late or late=MS, from 0 to {MAX_LATE_MS}"
                )),
            },
            ("double", None) => Ok(Self::Double),
            ("bad-cookie", None) => Ok(Self::BadCookie),
            ("len0", None) => Ok(Self::Len0),
            ("status", Some(code)) => parse_status(code)
                .map(|code| Self::Status { code })
                .ok_or_else(|| {
                    format!(
                        "`fault={text}` is wrong; give status=N, a 32-bit number such as 1, -5 \
                         or 0x80000000"
                    )
                }),
            _ => Err(format!(
                "`fault={text}` is wrong; give silent, late, late=MS, double, bad-cookie, len0 \
                 or status=N"
            )),
        }
    }
}

/// A status word: decimal, negative decimal (two's complement) or hexadecimal.
fn parse_status(text: &str) -> Option<u32> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u32::from_str_radix(digits, 16).ok();
    }
    let number = text.parse::<i64>().ok()?;
    u32::try_from(number)
        .ok()
        .or_else(|| i32::try_from(number).ok().map(i32::cast_unsigned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_name() {
        for (text, fault) in [
            ("silent", Fault::Silent),
            ("late", Fault::Late { ms: 1000 }),
            ("late=7", Fault::Late { ms: 7 }),
            ("double", Fault::Double),
            ("bad-cookie", Fault::BadCookie),
            ("len0", Fault::Len0),
            ("status=1", Fault::Status { code: 1 }),
            ("status=-1", Fault::Status { code: u32::MAX }),
            ("status=0x80000000", Fault::Status { code: 1 << 31 }),
            ("status=4294967295", Fault::Status { code: u32::MAX }),
        ] {
            assert_eq!(Fault::parse(text), Ok(fault), "{text}");
        }
    }

    #[test]
    fn an_unknown_fault_is_refused() {
        for wrong in [
            "",
            "loud",
            "silent=1",
            "late=",
            "late=x",
            "late=600001",
            "double=2",
            "status",
            "status=",
            "status=4294967296",
            "status=-2147483649",
            "status=0x1ffffffff",
        ] {
            let problem = Fault::parse(wrong).unwrap_err();
            assert!(
                problem.starts_with(&format!("`fault={wrong}` is wrong; give ")),
                "{problem}"
            );
        }
    }
}
