// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `--pmem …,fault=…`: a device with a bad character, for tests of the guest's driver.

use std::str::FromStr;

use pmem_flush::{Fault as EngineFault, ParseFaultError};
use serde::{Deserialize, Serialize};

/// What the device does wrong, and its text for the JSON form.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fault {
    text: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The engine does it.
    Engine(EngineFault),
    /// There is no engine between the queue and the file.
    Serial,
}

/// [`Kind::Serial`] on the command line.
const SERIAL: &str = "serial";

impl Fault {
    /// For the engine.
    #[must_use]
    pub fn engine(&self) -> Option<EngineFault> {
        match self.kind {
            Kind::Engine(fault) => Some(fault),
            Kind::Serial => None,
        }
    }

    /// One flush at a time on the device's own thread, as stock devices do it.
    #[must_use]
    pub fn is_serial(&self) -> bool {
        self.kind == Kind::Serial
    }
}

impl FromStr for Fault {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self {
            text: text.to_owned(),
            kind: if text == SERIAL {
                Kind::Serial
            } else {
                Kind::Engine(text.parse()?)
            },
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
            assert_eq!(parsed.engine(), Some(fault), "{text}");
            let json = serde_json::to_string(&parsed).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Fault>(&json).unwrap(), parsed);
        }
        serde_json::from_str::<Fault>("\"loud\"").unwrap_err();
    }

    #[test]
    fn a_serial_device_has_no_engine_at_work() {
        let fault: Fault = "serial".parse().unwrap();
        assert!(fault.is_serial());
        assert_eq!(fault.engine(), None);
        assert!(!"silent".parse::<Fault>().unwrap().is_serial());
    }
}
