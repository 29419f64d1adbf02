// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `--restore source_url=…` and the body of `vm.restore`.

use serde::{Deserialize, Serialize};

use super::options::{ConfigError, Options};

/// Where to restore from, and what to let pass.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct RestoreConfig {
    /// `file:///dir`.
    pub source_url: String,
    /// Accept a pmem file that has changed since the snapshot.
    #[serde(default)]
    pub allow_stale_pmem: bool,
    /// Let the machine run at once. Else it is paused after the restore.
    #[serde(default)]
    pub resume: bool,
}

impl RestoreConfig {
    pub(super) const FLAG: &str = "--restore";
    pub(super) const SYNTAX: &str = "Restore from a snapshot \
        \"source_url=file://<directory>,allow_stale_pmem=on|off,resume=on|off\"";

    /// Reads the flag's value.
    ///
    /// # Errors
    /// Names what is wrong and what would be right.
    pub fn parse(input: &str) -> Result<Self, ConfigError> {
        let options = Options::parse(
            Self::FLAG,
            input,
            &["source_url", "allow_stale_pmem", "resume"],
        )?;
        let source_url = options.require("source_url", "file:///DIRECTORY")?;
        if !source_url.starts_with("file://") {
            return Err(options.error(&format!(
                "`source_url={source_url}` is wrong; give file:///DIRECTORY"
            )));
        }
        Ok(Self {
            source_url: source_url.to_owned(),
            allow_stale_pmem: options.toggle("allow_stale_pmem")?,
            resume: options.toggle("resume")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_names_a_directory() {
        assert_eq!(
            RestoreConfig::parse("source_url=file:///s"),
            Ok(RestoreConfig {
                source_url: "file:///s".to_owned(),
                allow_stale_pmem: false,
                resume: false,
            })
        );
        let stale = RestoreConfig::parse("source_url=file:///s,allow_stale_pmem=on").unwrap();
        assert!(stale.allow_stale_pmem);
        for (wrong, right) in [
            ("/s", "the keys are source_url, allow_stale_pmem, resume"),
            ("source_url=/s", "give file:///DIRECTORY"),
            (
                "resume=on",
                "`source_url` is missing; give source_url=file:///DIRECTORY",
            ),
            ("source_url=file:///s,allow_stale_pmem=1", "give on or off"),
        ] {
            let error = RestoreConfig::parse(wrong).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("--restore {wrong}: ")),
                "{error}"
            );
            assert!(error.ends_with(right), "{error}");
        }
    }
}
