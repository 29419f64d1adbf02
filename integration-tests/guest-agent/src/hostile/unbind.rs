// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Takes a device away from its kernel driver, and gives it back.

use std::fs;
use std::path::{Path, PathBuf};

use crate::hostile::HostileError;

/// A device that was taken away from a driver.
pub(super) struct Unbound {
    /// The driver's folder and the device's name.
    from: Option<(PathBuf, String)>,
}

impl Unbound {
    pub(super) fn nothing() -> Self {
        Self { from: None }
    }

    /// Unbinds whatever driver has the device.
    pub(super) fn from_device(device: &Path) -> Result<Self, HostileError> {
        let Ok(driver) = fs::canonicalize(device.join("driver")) else {
            return Ok(Self::nothing());
        };
        let name = device
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let file = driver.join("unbind");
        fs::write(&file, &name).map_err(HostileError::io(format!(
            "write {name} into {}",
            file.display()
        )))?;
        Ok(Self {
            from: Some((driver, name)),
        })
    }

    /// Gives the device back.
    pub(super) fn restore(self) -> Result<(), HostileError> {
        let Some((driver, name)) = self.from else {
            return Ok(());
        };
        let file = driver.join("bind");
        fs::write(&file, &name).map_err(HostileError::io(format!(
            "write {name} into {}",
            file.display()
        )))
    }
}
