// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! Devices that lie, for testing guest drivers.
//!
//! Only with the feature `fault-injection`. A fault touches the answers to
//! requests; the device can still be drained, reset and removed.

use std::str::FromStr;
use std::time::Duration;

/// How long [`Fault::Late`] holds an answer if nothing else is asked for.
pub const DEFAULT_LATE: Duration = Duration::from_secs(5);

/// The lie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Requests are taken and never answered. They no longer count as in flight.
    Silent,
    /// Each batch is synced and answered this much later.
    Late(Duration),
    /// Each request is answered twice.
    Double,
    /// The used element names another descriptor than the request's head.
    BadCookie,
    /// The status is written, the used length says 0.
    Len0,
    /// The status of a flush is this number, whatever the sync said.
    Status(u32),
    /// A flush that comes while a sync runs shares that sync's result, which
    /// says nothing about what was written meanwhile.
    OpenBatch,
}

/// The value names no fault.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "'{0}' is no fault: it is silent, late, late:MILLISECONDS, double, bad-cookie, len0, status:NUMBER or open-batch"
)]
pub struct ParseFaultError(String);

impl FromStr for Fault {
    type Err = ParseFaultError;

    /// `status=N` and `status:N` are the same, `N` decimal or hexadecimal
    /// with `0x`.
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let (name, argument) = match value.split_once([':', '=']) {
            Some((name, argument)) => (name, Some(argument)),
            None => (value, None),
        };
        let fault = match (name, argument) {
            ("silent", None) => Some(Fault::Silent),
            ("late", None) => Some(Fault::Late(DEFAULT_LATE)),
            ("late", Some(ms)) => ms.parse().ok().map(Duration::from_millis).map(Fault::Late),
            ("double", None) => Some(Fault::Double),
            ("bad-cookie", None) => Some(Fault::BadCookie),
            ("len0", None) => Some(Fault::Len0),
            ("open-batch", None) => Some(Fault::OpenBatch),
            ("status", Some(number)) => match number.strip_prefix("0x") {
                Some(hex) => u32::from_str_radix(hex, 16).ok(),
                None => number.parse().ok(),
            }
            .map(Fault::Status),
            _ => None,
        };
        fault.ok_or_else(|| ParseFaultError(value.to_owned()))
    }
}
