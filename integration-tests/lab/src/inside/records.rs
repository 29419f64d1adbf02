// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The way of the records to the host.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, bail};

use crate::job::{RESULTS_PORT, Record};

/// The virtio-serial port that the host reads.
pub struct Port(File);

impl Port {
    /// Finds the port by its name and opens it.
    pub fn open() -> Result<Self> {
        for entry in fs::read_dir("/sys/class/virtio-ports")
            .context("no virtio-serial port in the lab machine")?
        {
            let entry = entry?;
            let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if name.trim() == RESULTS_PORT {
                let node = Path::new("/dev").join(entry.file_name());
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(&node)
                    .with_context(|| format!("cannot open {}", node.display()))?;
                take_nudges(file.try_clone()?);
                return Ok(Self(file));
            }
        }
        bail!("no virtio-serial port is named `{RESULTS_PORT}`");
    }

    /// Sends one record, complete with its end of line.
    pub fn write(&mut self, record: &Record) -> Result<()> {
        let mut line = serde_json::to_vec(record).context("cannot encode a record")?;
        line.push(b'\n');
        self.0
            .write_all(&line)
            .context("cannot write to the results port")
    }
}

/// Reads the host's nudges away. All they are for is their interrupt, and it comes only while there is
/// room for them.
fn take_nudges(mut port: File) {
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok(1..) = port.read(&mut buffer) {}
    });
}
