// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `--pmem file=…,…`.

use std::path::PathBuf;

use pmem_flush::{DEFAULT_DRAIN_TIMEOUT, LatchCause, SyncErrorPolicy};
use serde::{Deserialize, Serialize};

#[cfg(feature = "fault")]
use super::fault::Fault;
use super::options::{ConfigError, Options};

/// The longest drain a user can ask for, in seconds.
const MAX_DRAIN_TIMEOUT_SECONDS: u64 = 86_400;

/// The guest's driver needs this alignment of a region's size.
const ALIGN: u64 = 2 << 20;

/// One persistent memory device.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PmemConfig {
    /// The device's name in events and counters; never empty, unique.
    pub id: String,
    /// The backing file.
    pub file: PathBuf,
    /// The device's size in bytes, a multiple of 2 MiB; the file's size if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Guest writes stay in memory and never reach the file.
    #[serde(default)]
    pub discard_writes: bool,
    /// Seconds a drain may take, counted from the call that starts it.
    #[serde(default = "default_drain_timeout")]
    pub drain_timeout: u64,
    /// What a failed host sync means for later flushes.
    #[serde(default)]
    pub sync_error: SyncErrorPolicy,
    /// Why the file is latched, from the machine before a reboot.
    #[serde(skip)]
    pub latch: Option<LatchCause>,
    /// The device's bad character.
    #[cfg(feature = "fault")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

fn default_drain_timeout() -> u64 {
    DEFAULT_DRAIN_TIMEOUT.as_secs()
}

impl PmemConfig {
    pub(super) const FLAG: &str = "--pmem";
    pub(super) const SYNTAX: &str = "Persistent memory \"file=<path>,size=<bytes, or with K, M, G>,\
        discard_writes=on|off,id=<device_id>,drain_timeout=<seconds>,sync_error=latch|report\"";

    const KEYS: &[&str] = &[
        "file",
        "size",
        "discard_writes",
        "id",
        "drain_timeout",
        "sync_error",
        "fault",
    ];

    /// Reads one value of the flag; `index` counts from 0 and names a device without id.
    ///
    /// # Errors
    /// Names what is wrong and what would be right.
    pub fn parse(input: &str, index: usize) -> Result<Self, ConfigError> {
        let options = Options::parse(Self::FLAG, input, Self::KEYS)?;
        let sync_error = options.parse_value("sync_error")?.unwrap_or_default();
        #[cfg(feature = "fault")]
        let fault = options.parse_value("fault")?;
        #[cfg(not(feature = "fault"))]
        if options.get("fault").is_some() {
            return Err(options.error(
                "this build has no faulty devices; leave `fault` out or build with the \
                 feature `fault`",
            ));
        }
        Ok(Self {
            id: options
                .get("id")
                .map_or_else(|| format!("_pmem{index}"), str::to_owned),
            file: options.require("file", "PATH")?.into(),
            size: options.bytes("size", ALIGN)?,
            discard_writes: options.toggle("discard_writes")?,
            drain_timeout: options
                .number("drain_timeout", 1, MAX_DRAIN_TIMEOUT_SECONDS)?
                .unwrap_or_else(default_drain_timeout),
            sync_error,
            latch: None,
            #[cfg(feature = "fault")]
            fault,
        })
    }

    /// Checks values that came from a file.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |problem: &str| ConfigError {
            flag: Self::FLAG,
            value: format!("id={}", self.id),
            problem: problem.to_owned(),
        };
        if self.id.is_empty() {
            return Err(wrong("the id is empty; give a name"));
        }
        if !(1..=MAX_DRAIN_TIMEOUT_SECONDS).contains(&self.drain_timeout) {
            return Err(wrong(&format!(
                "`drain_timeout={}` is wrong; give a whole number from 1 to \
                 {MAX_DRAIN_TIMEOUT_SECONDS}",
                self.drain_timeout
            )));
        }
        if let Some(size) = self.size
            && (size == 0 || !size.is_multiple_of(ALIGN))
        {
            return Err(wrong(&format!(
                "`size={size}` is wrong; give a multiple of 2 MiB"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_device_takes_every_key() {
        let all = PmemConfig::parse(
            "file=/p,size=64M,discard_writes=on,id=ack,drain_timeout=2,sync_error=report",
            0,
        )
        .unwrap();
        assert_eq!(all.id, "ack");
        assert_eq!(all.file, Path::new("/p"));
        assert_eq!(all.size, Some(64 << 20));
        assert!(all.discard_writes);
        assert_eq!(all.drain_timeout, 2);
        assert_eq!(all.sync_error, SyncErrorPolicy::Report);
        assert_eq!(all.validate(), Ok(()));
    }

    #[test]
    fn a_device_has_defaults() {
        let pmem = PmemConfig::parse("file=/p", 3).unwrap();
        assert_eq!(pmem.id, "_pmem3");
        assert_eq!(pmem.size, None);
        assert!(!pmem.discard_writes);
        assert_eq!(pmem.drain_timeout, 30);
        assert_eq!(pmem.sync_error, SyncErrorPolicy::Latch);
    }

    #[test]
    fn a_wrong_device_is_refused() {
        for (wrong, right) in [
            ("size=2M", "`file` is missing; give file=PATH"),
            (
                "file=/p,size=3M",
                "give a multiple of 2 MiB, such as size=512M",
            ),
            ("file=/p,discard_writes=maybe", "give on or off"),
            (
                "file=/p,drain_timeout=0",
                "give a whole number from 1 to 86400",
            ),
            (
                "file=/p,drain_timeout=1.5",
                "give a whole number from 1 to 86400",
            ),
            (
                "file=/p,sync_error=ignore",
                "'ignore' is no sync error policy: it is 'latch' or 'report'",
            ),
            ("file=/p,id=", "give id=VALUE or leave it out"),
            (
                "file=/p,iommu=on",
                "the keys are file, size, discard_writes, id, drain_timeout, sync_error, fault",
            ),
        ] {
            let error = PmemConfig::parse(wrong, 0).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--pmem {wrong}: ")), "{error}");
            assert!(error.ends_with(right), "{error}");
        }
    }

    #[cfg(not(feature = "fault"))]
    #[test]
    fn a_normal_build_refuses_a_fault() {
        assert_eq!(
            PmemConfig::parse("file=/p,fault=silent", 0)
                .unwrap_err()
                .to_string(),
            "--pmem file=/p,fault=silent: this build has no faulty devices; leave `fault` out \
             or build with the feature `fault`"
        );
    }

    #[cfg(feature = "fault")]
    #[test]
    fn a_fault_build_takes_a_fault() {
        let pmem = PmemConfig::parse("file=/p,fault=late=20", 0).unwrap();
        assert_eq!(pmem.fault, Some("late=20".parse().unwrap()));
        let error = PmemConfig::parse("file=/p,fault=odd", 0).unwrap_err();
        assert!(error.problem.contains("'odd' is no fault"), "{error}");
    }

    #[test]
    fn a_file_with_wrong_values_is_refused() {
        let good = PmemConfig::parse("file=/p", 0).unwrap();
        for bad in [
            PmemConfig {
                id: String::new(),
                ..good.clone()
            },
            PmemConfig {
                drain_timeout: 0,
                ..good.clone()
            },
            PmemConfig {
                size: Some(4096),
                ..good
            },
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
    }
}
