// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! An error and its causes, from the outermost to the innermost.

use std::error::Error;
use std::iter::successors;

/// The texts of an error and its causes.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    successors(Some(error), |error| (*error).source())
        .map(ToString::to_string)
        .collect()
}

/// The same as one line.
#[must_use]
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    chain(error).join(": ")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::snapshot::SnapshotError;

    #[test]
    fn each_cause_is_said_once() {
        let error = SnapshotError::Read {
            path: "/s".into(),
            source: io::Error::from_raw_os_error(libc::ENOENT),
        };
        assert_eq!(
            one_line(&error),
            "/s cannot be read: No such file or directory (os error 2)"
        );
        assert_eq!(chain(&error).len(), 2);
    }
}
