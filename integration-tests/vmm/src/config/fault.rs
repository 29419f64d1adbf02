// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `--pmem …,fault=…`: a device with a bad character, for tests of the guest's driver.

use std::str::FromStr;

use pmem_flush::Fault as EngineFault;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What the device does wrong, and its text for the JSON form.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fault {
    text: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Lie {
        fault: EngineFault,
        once: bool,
    },
    Accident(Accident),
    /// There is no engine between the queue and the file.
    Serial,
    /// Its storage does it.
    Sync(SyncLie),
    /// The VMM does it.
    Flaw(Flaw),
}

/// What a VMM may get wrong around a device that is honest itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// `forgetful`: a restore knows nothing of the device status.
    Forgetful,
    /// `fragile`: the device's thread ends at a bad ring.
    Fragile,
    /// `unwatched`: nobody looks for a vCPU that waits for a page of a file in vain.
    Unwatched,
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

/// [`Kind::Serial`] on the command line.
const SERIAL: &str = "serial";

/// What happens to a device instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accident {
    /// It happens at the driver's notification of this number, from 1.
    pub at: u64,
    /// What happens.
    pub mishap: Mishap,
}

/// The accidents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// The device is pulled out: every byte of its registers reads as this one, and it does
    /// nothing any more, whatever the driver does.
    Gone(u8),
    /// It sets DEVICE_NEEDS_RESET and does nothing until it is reset.
    NeedsReset,
}

/// The value names no fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "'{0}' is no fault: it is silent, late, late:MILLISECONDS, double, bad-cookie, len0, \
     open-batch or status:NUMBER, each with once: before it for a device that is honest after a reset; \
     gone:N, gone-zeros:N or needs-reset:N for what happens at the driver's Nth notification; \
     no-sync, early or sync-file-range for storage that lies about syncs; forgetful, fragile or \
     unwatched for a VMM with a flaw; or serial for a device that syncs for one flush at a time, \
     as stock ones do"
)]
pub struct ParseFaultError(String);

impl Fault {
    /// For the engine; `reset` if the driver has reset the device before.
    #[must_use]
    pub fn engine(&self, reset: bool) -> Option<EngineFault> {
        match self.kind {
            Kind::Lie { fault, once } => (!once || !reset).then_some(fault),
            Kind::Accident(_) | Kind::Flaw(_) | Kind::Serial | Kind::Sync(_) => None,
        }
    }

    /// For the VMM.
    #[must_use]
    pub fn flaw(&self) -> Option<Flaw> {
        match self.kind {
            Kind::Flaw(flaw) => Some(flaw),
            _ => None,
        }
    }

    /// For its storage.
    #[must_use]
    pub fn sync(&self) -> Option<SyncLie> {
        match self.kind {
            Kind::Sync(lie) => Some(lie),
            _ => None,
        }
    }

    /// One flush at a time on the device's own thread, as stock devices do it.
    #[must_use]
    pub fn is_serial(&self) -> bool {
        self.kind == Kind::Serial
    }

    /// Whether a reset makes an honest device of it.
    #[must_use]
    pub fn is_once(&self) -> bool {
        matches!(self.kind, Kind::Lie { once: true, .. })
    }

    /// What happens to it.
    #[must_use]
    pub fn accident(&self) -> Option<Accident> {
        match self.kind {
            Kind::Accident(accident) => Some(accident),
            _ => None,
        }
    }
}

fn kind(text: &str) -> Option<Kind> {
    match text {
        SERIAL => return Some(Kind::Serial),
        "no-sync" => return Some(Kind::Sync(SyncLie::No)),
        "early" => return Some(Kind::Sync(SyncLie::Early)),
        "sync-file-range" => return Some(Kind::Sync(SyncLie::Range)),
        "forgetful" => return Some(Kind::Flaw(Flaw::Forgetful)),
        "fragile" => return Some(Kind::Flaw(Flaw::Fragile)),
        "unwatched" => return Some(Kind::Flaw(Flaw::Unwatched)),
        _ => {}
    }
    let accident = text.split_once([':', '=']).and_then(|(name, number)| {
        let mishap = match name {
            "gone" => Mishap::Gone(0xff),
            "gone-zeros" => Mishap::Gone(0),
            "needs-reset" => Mishap::NeedsReset,
            _ => return None,
        };
        let at = number.parse().ok().filter(|at| *at > 0)?;
        Some(Accident { at, mishap })
    });
    if let Some(accident) = accident {
        return Some(Kind::Accident(accident));
    }
    let (once, lie) = match text.strip_prefix("once:") {
        Some(lie) => (true, lie),
        None => (false, text),
    };
    let fault = lie.parse().ok()?;
    Some(Kind::Lie { fault, once })
}

impl FromStr for Fault {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let kind = kind(text).ok_or_else(|| ParseFaultError(text.to_owned()))?;
        let text = text.to_owned();
        Ok(Self { text, kind })
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
    fn a_flaw_of_the_vmm_leaves_the_device_honest() {
        for (text, flaw) in [
            ("forgetful", Flaw::Forgetful),
            ("fragile", Flaw::Fragile),
            ("unwatched", Flaw::Unwatched),
        ] {
            let fault: Fault = text.parse().unwrap();
            assert_eq!(fault.flaw(), Some(flaw), "{text}");
            assert_eq!((fault.engine(false), fault.sync()), (None, None), "{text}");
        }
        assert_eq!("silent".parse::<Fault>().unwrap().flaw(), None);
    }

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
            assert_eq!(parsed.engine(false), Some(fault), "{text}");
            assert_eq!(parsed.engine(true), Some(fault), "{text}");
            assert_eq!(parsed.sync(), None, "{text}");
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
        assert_eq!(fault.engine(false), None);
        assert!(!"silent".parse::<Fault>().unwrap().is_serial());
    }

    #[test]
    fn a_lie_that_is_told_once_ends_with_a_reset() {
        let fault: Fault = "once:late:9".parse().unwrap();
        assert!(fault.is_once());
        let late = EngineFault::Late(Duration::from_millis(9));
        assert_eq!(fault.engine(false), Some(late));
        assert_eq!(fault.engine(true), None);
    }

    #[test]
    fn an_accident_has_a_time() {
        for (text, mishap) in [
            ("gone:3", Mishap::Gone(0xff)),
            ("gone-zeros:3", Mishap::Gone(0)),
            ("needs-reset=3", Mishap::NeedsReset),
        ] {
            let fault: Fault = text.parse().unwrap();
            assert_eq!(fault.accident(), Some(Accident { at: 3, mishap }), "{text}");
            assert_eq!(fault.engine(false), None, "{text}");
        }
        for text in ["gone", "gone:0", "gone:x", "once:gone:3"] {
            text.parse::<Fault>().unwrap_err();
        }
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
                (parsed.engine(false), parsed.sync()),
                (None, Some(lie)),
                "{text}"
            );
        }
    }
}
