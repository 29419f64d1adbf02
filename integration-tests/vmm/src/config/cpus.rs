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

impl CpusConfig {
    pub(super) const FLAG: &str = "--cpus";
    pub(super) const SYNTAX: &str = "Virtual CPUs \"boot=<1 to 4>\"";

    /// Reads the flag's value.
    ///
    /// # Errors
    /// Names what is wrong and what would be right.
    pub fn parse(input: &str) -> Result<Self, ConfigError> {
        let options = Options::parse(Self::FLAG, input, &["boot", "max"])?;
        let boot = options.number("boot", 1, MAX_VCPUS.into())?.unwrap_or(1);
        if options
            .number("max", 1, MAX_VCPUS.into())?
            .is_some_and(|max| max != boot)
        {
            return Err(options.error(&format!(
                "there is no CPU hotplug here; give max={boot} or leave it out"
            )));
        }
        // In range: checked above.
        let boot_vcpus = u8::try_from(boot).unwrap_or(MAX_VCPUS);
        Ok(Self {
            boot_vcpus,
            max_vcpus: boot_vcpus,
        })
    }

    /// Checks values that came from a file.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        Self::parse(&format!("boot={},max={}", self.boot_vcpus, self.max_vcpus)).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_to_four_vcpus() {
        for count in 1..=4 {
            let cpus = CpusConfig::parse(&format!("boot={count}")).unwrap();
            assert_eq!((cpus.boot_vcpus, cpus.max_vcpus), (count, count));
            assert_eq!(
                CpusConfig::parse(&format!("boot={count},max={count}")),
                Ok(cpus)
            );
        }
        for (wrong, right) in [
            ("boot=0", "give a whole number from 1 to 4"),
            ("boot=5", "give a whole number from 1 to 4"),
            ("boot=two", "give a whole number from 1 to 4"),
            (
                "boot=1,max=2",
                "there is no CPU hotplug here; give max=1 or leave it out",
            ),
            ("2", "`2` is not key=value; the keys are boot, max"),
        ] {
            let error = CpusConfig::parse(wrong).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--cpus {wrong}: ")), "{error}");
            assert!(error.ends_with(right), "{error}");
        }
    }

    #[test]
    fn a_file_with_too_many_vcpus_is_refused() {
        let cpus = CpusConfig {
            boot_vcpus: 9,
            max_vcpus: 9,
        };
        let error = cpus.validate().unwrap_err();
        assert!(error.problem.ends_with("from 1 to 4"), "{error}");
    }
}
