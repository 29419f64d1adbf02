// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! Every status and every length a host can write maps to an errno of ours.

use crate::{Cause, Error, verdict};

/// All u32 values in an optimised build; in a debug build each 4,099th (a prime), and both ends.
fn all() -> impl Iterator<Item = u32> {
    let stride = if cfg!(debug_assertions) { 4_099 } else { 1 };
    let ends = (0..70_000).chain(u32::MAX - 70_000..=u32::MAX);
    (0..=u32::MAX).step_by(stride).chain(ends)
}

#[test]
fn every_status_has_a_verdict() {
    assert_eq!(verdict(0, 4), Ok(()));
    let wrong = all().find(|status| *status != 0 && verdict(*status, 4) != Err(Error::Host));
    assert_eq!(wrong, None);
    let read = all().find(|status| verdict(*status, 3) != Err(Error::Short));
    assert_eq!(read, None, "a status was read that was not written");
}

#[test]
fn every_length_has_a_verdict() {
    for len in 0..4 {
        assert_eq!(verdict(0, len), Err(Error::Short));
    }
    let wrong = all().find(|len| *len >= 4 && verdict(0, *len) != Ok(()));
    assert_eq!(wrong, None);
}

#[test]
fn every_error_is_an_errno_of_ours() {
    let table = [
        (Error::Host, -5),
        (Error::Short, -5),
        (Error::NoMemory, -12),
        (Error::Broken, -5),
        (Error::TimedOut, -110),
        (Error::Gone, -19),
        (Error::Busy, -16),
        (Error::WrongState, -22),
    ];
    for (error, errno) in table {
        assert_eq!(error.errno(), errno);
    }
    assert_eq!(Cause::Silent.error(), Error::TimedOut);
    assert_eq!(Cause::NeedsReset.error(), Error::Broken);
}
