// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `--cpus boot=N`.

use serde::{Deserialize, Serialize};

use super::options::{ConfigError, Options};

/// The most vCPUs this machine can have.
const MAX_VCPUS: u8 = 4;

/// The virtual CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CpusConfig {
    /// How many vCPUs run from the start: 1 to 4.
    pub boot_vcpus: u8,
    /// The same number: there is no CPU hotplug here.
    pub max_vcpus: u8,
}

impl Default for CpusConfig {
    fn default() -> Self {
        Self {
            boot_vcpus: 1,
            max_vcpus: 1,
        }
    }
}
