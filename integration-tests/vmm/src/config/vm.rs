// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The whole machine, as `vm.info` shows it and a snapshot keeps it.

use serde::{Deserialize, Serialize};

use super::{ConsoleConfig, CpusConfig, MemoryConfig, PayloadConfig, PmemConfig, SerialConfig};

/// One virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VmConfig {
    /// The virtual CPUs.
    pub cpus: CpusConfig,
    /// Guest RAM.
    pub memory: MemoryConfig,
    /// What the guest boots.
    pub payload: PayloadConfig,
    /// The persistent memory devices, in the order of the command line. Every one
    /// has an id: the user's, else `_pmemN`, where N counts from 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pmem: Vec<PmemConfig>,
    /// The serial port, ttyS0.
    pub serial: SerialConfig,
    /// The virtio console, which this machine does not have: always off.
    pub console: ConsoleConfig,
}
