// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `--serial` and `--console`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::options::{ConfigError, Options};

/// Where a console's bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum ConsoleOutputMode {
    /// The guest has no such device.
    Off,
    /// The device is there, its output is dropped.
    Null,
    /// The VMM's standard output and input.
    Tty,
    /// Output is written to a file; there is no input.
    File,
    /// A Unix socket that the VMM listens on; one client at a time.
    Socket,
}

/// The serial port, ttyS0.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SerialConfig {
    /// The file of mode [`ConsoleOutputMode::File`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Where the bytes go.
    pub mode: ConsoleOutputMode,
    /// The socket's path of mode [`ConsoleOutputMode::Socket`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

/// The virtio console, which this machine does not have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleConfig {
    /// Always [`ConsoleOutputMode::Off`].
    pub mode: ConsoleOutputMode,
}
