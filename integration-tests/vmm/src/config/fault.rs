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
    /// Its storage does.
    Sync(SyncLie),
}

/// A flush that is answered without being one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncLie {
    /// `no-sync`: nothing is synced.
    No,
    /// `early`: the answer comes before the sync.
    Early,
    /// `sync-file-range`: the pages are written, and the disk's cache is not flushed.
    Range,
}

impl Fault {
    /// For the engine.
    #[must_use]
    pub fn engine(&self) -> Option<EngineFault> {
        match self.kind {
            Kind::Engine(fault) => Some(fault),
            Kind::Sync(_) => None,
        }
    }

    /// For its storage.
    #[must_use]
    pub fn sync(&self) -> Option<SyncLie> {
        match self.kind {
            Kind::Sync(lie) => Some(lie),
            Kind::Engine(_) => None,
        }
    }
}

impl FromStr for Fault {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self {
            text: text.to_owned(),
            kind: match text {
                "no-sync" => Kind::Sync(SyncLie::No),
                "early" => Kind::Sync(SyncLie::Early),
                "sync-file-range" => Kind::Sync(SyncLie::Range),
                _ => Kind::Engine(text.parse()?),
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
            assert_eq!(parsed.sync(), None, "{text}");
            let json = serde_json::to_string(&parsed).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Fault>(&json).unwrap(), parsed);
        }
        serde_json::from_str::<Fault>("\"loud\"").unwrap_err();
    }

    #[test]
    fn a_lie_about_syncs_is_the_storages() {
        for (text, lie) in [
            ("no-sync", SyncLie::No),
            ("early", SyncLie::Early),
            ("sync-file-range", SyncLie::Range),
        ] {
            let parsed: Fault = text.parse().unwrap();
            assert_eq!(
                (parsed.engine(), parsed.sync()),
                (None, Some(lie)),
                "{text}"
            );
        }
    }
}
