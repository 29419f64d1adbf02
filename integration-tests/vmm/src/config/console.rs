// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `--serial` and `--console`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::options::ConfigError;

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

impl Default for SerialConfig {
    fn default() -> Self {
        Self::of(ConsoleOutputMode::Null)
    }
}

impl SerialConfig {
    pub(super) const FLAG: &str = "--serial";
    pub(super) const SYNTAX: &str = "Serial port \"off|null|tty|file=<path>|socket=<path>\"";

    fn of(mode: ConsoleOutputMode) -> Self {
        Self {
            file: None,
            mode,
            socket: None,
        }
    }

    /// Reads the flag's value.
    ///
    /// # Errors
    /// Names what is wrong and what would be right.
    pub fn parse(input: &str) -> Result<Self, ConfigError> {
        Ok(match (input, input.split_once('=')) {
            ("off", _) => Self::of(ConsoleOutputMode::Off),
            ("null", _) => Self::of(ConsoleOutputMode::Null),
            ("tty", _) => Self::of(ConsoleOutputMode::Tty),
            (_, Some(("file", path))) if !path.is_empty() => Self {
                file: Some(path.into()),
                ..Self::of(ConsoleOutputMode::File)
            },
            (_, Some(("socket", path))) if !path.is_empty() => Self {
                socket: Some(path.into()),
                ..Self::of(ConsoleOutputMode::Socket)
            },
            _ => {
                return Err(ConfigError {
                    flag: Self::FLAG,
                    value: input.to_owned(),
                    problem: "give off, null, tty, file=PATH or socket=PATH".to_owned(),
                });
            }
        })
    }

    /// Checks values that came from a file: mode and path go together.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let (file, socket) = (self.file.is_some(), self.socket.is_some());
        let fits = match self.mode {
            ConsoleOutputMode::File => file && !socket,
            ConsoleOutputMode::Socket => socket && !file,
            ConsoleOutputMode::Off | ConsoleOutputMode::Null | ConsoleOutputMode::Tty => {
                !file && !socket
            }
        };
        if fits {
            return Ok(());
        }
        Err(ConfigError {
            flag: Self::FLAG,
            value: format!("{:?}", self.mode),
            problem:
                "mode File goes with `file`, mode Socket with `socket`, the others with neither"
                    .to_owned(),
        })
    }
}

/// The virtio console, which this machine does not have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleConfig {
    /// Always [`ConsoleOutputMode::Off`].
    pub mode: ConsoleOutputMode,
}

impl Default for ConsoleConfig {
    fn default() -> Self {
        Self {
            mode: ConsoleOutputMode::Off,
        }
    }
}

impl ConsoleConfig {
    pub(super) const FLAG: &str = "--console";
    pub(super) const SYNTAX: &str = "Virtio console: there is none here \"off\"";

    /// Reads the flag's value.
    ///
    /// # Errors
    /// Anything but `off`.
    pub fn parse(input: &str) -> Result<Self, ConfigError> {
        if input == "off" {
            return Ok(Self::default());
        }
        Err(ConfigError {
            flag: Self::FLAG,
            value: input.to_owned(),
            problem: "this machine has no virtio console; give off, and use --serial".to_owned(),
        })
    }

    /// Checks values that came from a file.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        Self::parse(match self.mode {
            ConsoleOutputMode::Off => "off",
            _ => "mode",
        })
        .map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_serial_port_takes_each_mode() {
        for (text, mode) in [
            ("off", ConsoleOutputMode::Off),
            ("null", ConsoleOutputMode::Null),
            ("tty", ConsoleOutputMode::Tty),
        ] {
            let serial = SerialConfig::parse(text).unwrap();
            assert_eq!(serial, SerialConfig::of(mode));
            assert_eq!(serial.validate(), Ok(()));
        }
        let file = SerialConfig::parse("file=/a,b").unwrap();
        assert_eq!(file.mode, ConsoleOutputMode::File);
        assert_eq!(file.file.as_deref(), Some(Path::new("/a,b")));
        assert_eq!(file.validate(), Ok(()));
        let socket = SerialConfig::parse("socket=/s").unwrap();
        assert_eq!(socket.mode, ConsoleOutputMode::Socket);
        assert_eq!(socket.socket.as_deref(), Some(Path::new("/s")));
        assert_eq!(socket.validate(), Ok(()));
    }

    #[test]
    fn a_wrong_serial_mode_is_refused() {
        for wrong in [
            "", "on", "pty", "file", "file=", "socket=", "tty=1", "path=/a",
        ] {
            assert_eq!(
                SerialConfig::parse(wrong).unwrap_err().to_string(),
                format!("--serial {wrong}: give off, null, tty, file=PATH or socket=PATH")
            );
        }
        let mixed = SerialConfig {
            file: Some("/a".into()),
            ..SerialConfig::of(ConsoleOutputMode::Socket)
        };
        assert!(mixed.validate().is_err());
    }

    #[test]
    fn the_console_is_off() {
        assert_eq!(ConsoleConfig::parse("off"), Ok(ConsoleConfig::default()));
        assert_eq!(
            ConsoleConfig::parse("tty").unwrap_err().to_string(),
            "--console tty: this machine has no virtio console; give off, and use --serial"
        );
        let tty = ConsoleConfig {
            mode: ConsoleOutputMode::Tty,
        };
        assert!(tty.validate().is_err());
    }
}
