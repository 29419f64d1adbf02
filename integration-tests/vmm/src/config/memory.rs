// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `--memory size=…`.

use serde::{Deserialize, Serialize};

use super::options::{ConfigError, Options};

/// RAM comes in pieces of this size, so that huge pages can back it.
const ALIGN: u64 = 2 << 20;

/// Guest RAM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryConfig {
    /// Bytes; a multiple of 2 MiB.
    pub size: u64,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { size: 512 << 20 }
    }
}

impl MemoryConfig {
    pub(super) const FLAG: &str = "--memory";
    pub(super) const SYNTAX: &str = "Guest RAM \"size=<bytes, or with K, M, G>\"";

    /// Reads the flag's value.
    ///
    /// # Errors
    /// Names what is wrong and what would be right.
    pub fn parse(input: &str) -> Result<Self, ConfigError> {
        let options = Options::parse(Self::FLAG, input, &["size"])?;
        options.require("size", "512M")?;
        let size = options.bytes("size", ALIGN)?.unwrap_or_default();
        Ok(Self { size })
    }

    /// Checks values that came from a file.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        Self::parse(&format!("size={}", self.size)).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_a_multiple_of_two_mebibytes() {
        assert_eq!(
            MemoryConfig::parse("size=1G"),
            Ok(MemoryConfig { size: 1 << 30 })
        );
        for (wrong, right) in [
            ("size=1000", "give a multiple of 2 MiB, such as size=512M"),
            ("size=0", "give a multiple of 2 MiB, such as size=512M"),
            ("size=lots", "with K, M or G, such as size=512M"),
            ("1G", "the keys are size"),
        ] {
            let error = MemoryConfig::parse(wrong).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--memory {wrong}: ")), "{error}");
            assert!(error.ends_with(right), "{error}");
        }
        assert!(MemoryConfig { size: 5 }.validate().is_err());
    }
}
