// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `--kernel`, `--initramfs` and `--cmdline`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the guest boots.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PayloadConfig {
    /// A bzImage.
    pub kernel: PathBuf,
    /// The kernel's command line; empty if the user gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
    /// An initramfs (cpio, compressed or not: the kernel's business).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initramfs: Option<PathBuf>,
}
