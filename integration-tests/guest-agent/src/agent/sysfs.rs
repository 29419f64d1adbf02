// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Finds block devices by what an order calls them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use guest_agent::devices;
use guest_agent::wire::BlockCounters;

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// Turns a `device` of an order into a path, see [`guest_agent::wire::Step`].
///
/// # Errors
///
/// There is no such device.
pub fn resolve(device: &str) -> io::Result<PathBuf> {
    let devices = devices::list()?;
    let (found, wanted) = if let Some(index) = device.strip_prefix('#') {
        let index: usize = index
            .parse()
            .map_err(|_| invalid(format!("device {device}: # wants a number from 0")))?;
        (devices.get(index), format!("pmem device {index}"))
    } else if let Some(start) = device.strip_prefix("@0x") {
        let start = u64::from_str_radix(start, 16)
            .map_err(|_| invalid(format!("device {device}: @0x wants a hexadecimal address")))?;
        let found = devices.iter().find(|device| device.start == Some(start));
        (found, format!("pmem region at {start:#x}"))
    } else {
        return Ok(PathBuf::from(device));
    };
    let found = found.ok_or_else(|| {
        invalid(format!(
            "there is no {wanted}, there are {} pmem devices",
            devices.len()
        ))
    })?;
    found.path.as_ref().map(PathBuf::from).ok_or_else(|| {
        let driver = found.driver.as_deref().unwrap_or("none");
        invalid(format!(
            "{wanted} has no block device (its driver: {driver})"
        ))
    })
}

/// Reads a block device's counters.
///
/// # Errors
///
/// It is no block device, or sysfs is not mounted.
pub fn counters(device: &Path) -> io::Result<BlockCounters> {
    let real = fs::canonicalize(device)?;
    let name = real
        .file_name()
        .ok_or_else(|| invalid(format!("{} is no block device", device.display())))?;
    let text = fs::read_to_string(Path::new("/sys/class/block").join(name).join("stat"))?;
    let fields: Vec<u64> = text
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    let field = |index: usize| fields.get(index).copied().unwrap_or(0);
    Ok(BlockCounters {
        reads: field(0),
        writes: field(4),
        sectors_written: field(6),
        in_flight: field(8),
        flushes: field(15),
    })
}
