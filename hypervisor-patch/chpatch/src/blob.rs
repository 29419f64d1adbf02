// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Git's name for a file's content, and git's file modes.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

/// The id git gives to a blob in a SHA-1 repository: 20 bytes, written as 40
/// lower-case hex digits.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobId([u8; 20]);

impl BlobId {
    /// The id of `content`: the SHA-1 of `blob <length>\0` and the content.
    pub fn of(content: &[u8]) -> Self {
        let mut hash = Sha1::new();
        hash.update(format!("blob {}\0", content.len()));
        hash.update(content);
        Self(hash.finalize().into())
    }
}

impl Display for BlobId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for BlobId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("'{text}' is no blob id: 40 lower-case hex digits are");
        let digits = text.as_bytes();
        if digits.len() != 40 {
            return Err(bad());
        }
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(bad()),
        };
        let mut id = [0; 20];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(id))
    }
}

impl TryFrom<String> for BlobId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<BlobId> for String {
    fn from(id: BlobId) -> Self {
        id.to_string()
    }
}

/// What git keeps of a regular file's mode.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Mode {
    /// A file that is not executable.
    #[serde(rename = "100644")]
    Regular,
    /// A file its owner may execute.
    #[serde(rename = "100755")]
    Executable,
}

impl Mode {
    /// The mode git sees in these permission bits.
    pub fn of_permissions(bits: u32) -> Self {
        if bits & 0o100 == 0 {
            Self::Regular
        } else {
            Self::Executable
        }
    }

    /// `bits` with the execute permissions that this mode asks for: whoever may
    /// read may execute, or nobody may.
    pub fn on_permissions(self, bits: u32) -> u32 {
        match (self, Self::of_permissions(bits)) {
            (Self::Regular, _) => bits & !0o111,
            (Self::Executable, Self::Executable) => bits,
            (Self::Executable, Self::Regular) => bits | (bits & 0o444) >> 2,
        }
    }

    /// Git's six digits.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Regular => "100644",
            Self::Executable => "100755",
        }
    }

    /// The mode of git's six digits; `None` for what is no regular file (a
    /// symbolic link, a submodule, a folder).
    pub fn from_git(digits: &str) -> Option<Self> {
        match digits {
            "100644" => Some(Self::Regular),
            "100755" => Some(Self::Executable),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_git() {
        // `git hash-object` of nothing, and of "hello\n".
        assert_eq!(
            BlobId::of(b"").to_string(),
            "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
        );
        assert_eq!(
            BlobId::of(b"hello\n").to_string(),
            "ce013625030ba8dba906f756967f9e9ca394464a"
        );
    }

    #[test]
    fn only_forty_lower_case_hex_digits_are_an_id() {
        let id = BlobId::of(b"x");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "e69d", &id.to_string().to_uppercase(), &"g".repeat(40)] {
            bad.parse::<BlobId>().unwrap_err();
        }
    }

    #[test]
    fn execute_permission_follows_read_permission() {
        assert_eq!(Mode::Executable.on_permissions(0o640), 0o750);
        assert_eq!(Mode::Regular.on_permissions(0o755), 0o644);
        assert_eq!(Mode::Executable.on_permissions(0o700), 0o700);
    }
}
