// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The whole machine, as `vm.info` shows it and a snapshot keeps it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    ConfigError, ConsoleConfig, CpusConfig, MemoryConfig, PayloadConfig, PmemConfig, SerialConfig,
};

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

impl VmConfig {
    /// Checks what the parts' parsers cannot see, and all values again, since a
    /// configuration may come from a file that a user edited.
    ///
    /// # Errors
    /// Names the flag a value belongs to.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.cpus.validate()?;
        self.memory.validate()?;
        self.serial.validate()?;
        self.console.validate()?;
        let mut ids = BTreeSet::new();
        for pmem in &self.pmem {
            pmem.validate()?;
            if !ids.insert(pmem.id.as_str()) {
                return Err(ConfigError {
                    flag: PmemConfig::FLAG,
                    value: format!("id={}", pmem.id),
                    problem: "two devices have this id; give each its own".to_owned(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;
    use crate::config::ConsoleOutputMode;

    fn config() -> VmConfig {
        VmConfig {
            cpus: CpusConfig::parse("boot=2").unwrap(),
            memory: MemoryConfig::parse("size=512M").unwrap(),
            payload: PayloadConfig {
                kernel: "/k".into(),
                cmdline: Some("console=ttyS0".to_owned()),
                initramfs: None,
            },
            pmem: vec![PmemConfig::parse("file=/p,size=64M", 0).unwrap()],
            serial: SerialConfig::parse("socket=/s").unwrap(),
            console: ConsoleConfig::default(),
        }
    }

    #[test]
    fn the_json_has_cloud_hypervisors_shape() {
        let json = to_value(config()).unwrap();
        assert_eq!(
            json,
            json!({
                "cpus": {"boot_vcpus": 2, "max_vcpus": 2},
                "memory": {"size": 536870912},
                "payload": {"kernel": "/k", "cmdline": "console=ttyS0"},
                "pmem": [{
                    "id": "_pmem0", "file": "/p", "size": 67108864, "discard_writes": false,
                    "drain_timeout": 30, "sync_error": "latch",
                }],
                "serial": {"mode": "Socket", "socket": "/s"},
                "console": {"mode": "Off"},
            })
        );
        assert_eq!(serde_json::from_value::<VmConfig>(json).unwrap(), config());
    }

    #[test]
    fn ids_are_unique() {
        let mut config = config();
        config.pmem.push(config.pmem[0].clone());
        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "--pmem id=_pmem0: two devices have this id; give each its own"
        );
    }

    #[test]
    fn an_edited_file_is_checked_like_the_flags() {
        let spoil: [fn(&mut VmConfig); 5] = [
            |config| config.cpus.boot_vcpus = 0,
            |config| config.memory.size = 1,
            |config| config.serial.socket = None,
            |config| config.console.mode = ConsoleOutputMode::Tty,
            |config| config.pmem[0].drain_timeout = 0,
        ];
        assert_eq!(config().validate(), Ok(()));
        for spoil in spoil {
            let mut config = config();
            spoil(&mut config);
            assert!(config.validate().is_err(), "{config:?}");
        }
    }
}
