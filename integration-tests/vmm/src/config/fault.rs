// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `--pmem …,fault=…`: a device with a bad character, for tests of the guest's driver.

use std::str::FromStr;

use pmem_flush::{Fault as EngineFault, ParseFaultError};
use serde::{Deserialize, Serialize};

/// What the device does wrong: the engine's fault, and its text for the JSON form.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fault {
    text: String,
    fault: EngineFault,
}

impl Fault {
    /// For the engine.
    #[must_use]
    pub fn engine(&self) -> EngineFault {
        self.fault
    }
}

impl FromStr for Fault {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self {
            text: text.to_owned(),
            fault: text.parse()?,
        })
    }
}

impl TryFrom<String> for Fault {
    type Error = ParseFaultError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        fault.text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_fault_keeps_its_text() {
        for (text, fault) in [
            ("silent", EngineFault::Silent),
            ("late=7", EngineFault::Late(Duration::from_millis(7))),
            ("double", EngineFault::Double),
            ("bad-cookie", EngineFault::BadCookie),
            ("len0", EngineFault::Len0),
            ("status=0x80000000", EngineFault::Status(1 << 31)),
        ] {
            let parsed: Fault = text.parse().unwrap();
            assert_eq!(parsed.engine(), fault, "{text}");
            let json = serde_json::to_string(&parsed).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Fault>(&json).unwrap(), parsed);
        }
        serde_json::from_str::<Fault>("\"loud\"").unwrap_err();
    }
}
