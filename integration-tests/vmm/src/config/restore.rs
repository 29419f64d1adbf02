// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `--restore source_url=…` and the body of `vm.restore`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::options::{ConfigError, Options};

/// Where to restore from, and what to let pass.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreConfig {
    /// `file:///dir`.
    pub source_url: String,
    /// Accept a pmem file that has changed since the snapshot.
    #[serde(default)]
    pub allow_stale_pmem: bool,
}
