// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A filesystem that is mounted as long as its guard lives.

use std::fs;
use std::mem;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::inside::cleanup::WORK;
use crate::inside::command::{ask, run};

/// A mounted device or image; dropping it unmounts it.
pub struct Mounted {
    /// Where.
    pub at: PathBuf,
}

impl Mounted {
    /// Mounts `source` in a folder `name` of the trial.
    pub fn new(source: &Path, name: &str, options: &str) -> Result<Self> {
        let at = Path::new(WORK).join(name);
        fs::create_dir_all(&at).with_context(|| format!("cannot make {}", at.display()))?;
        let [source, target] = [source, &at].map(|path| path.display().to_string());
        run("mount", &["-o", options, &source, &target])?;
        Ok(Self { at })
    }

    /// Unmounts it, which writes what is still to be written.
    pub fn end(mut self) -> Result<()> {
        let at = mem::take(&mut self.at);
        run("umount", &[&at.display().to_string()]).map(drop)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.at.as_os_str().is_empty() {
            let _ = ask("umount", &["--detach-loop", &self.at.display().to_string()]);
        }
    }
}
