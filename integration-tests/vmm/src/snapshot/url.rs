// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `file:///dir`, cloud-hypervisor's way to name a snapshot.

use std::path::{Path, PathBuf};

use super::SnapshotError;

/// The directory that `url` names; it has to exist.
///
/// # Errors
/// Another scheme, or no directory there.
pub fn directory(url: &str) -> Result<PathBuf, SnapshotError> {
    let path = url
        .strip_prefix("file://")
        .filter(|path| !path.is_empty())
        .ok_or_else(|| SnapshotError::Url(url.to_owned()))?;
    let path = Path::new(path);
    if !path.is_dir() {
        return Err(SnapshotError::NotADirectory(path.to_owned()));
    }
    Ok(path.to_owned())
}
