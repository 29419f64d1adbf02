// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `--memory size=…`.

use serde::{Deserialize, Serialize};

use super::options::{ConfigError, Options};

/// Guest RAM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryConfig {
    /// Bytes; a multiple of 2 MiB.
    pub size: u64,
}
