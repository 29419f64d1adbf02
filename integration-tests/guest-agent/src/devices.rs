// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Lists virtio-pmem devices in the order of the VMM's command line.
//!
//! The order is that of the transport: PCI functions by their address, virtio-mmio devices by
//! their ACPI instance. Both follow the command line in QEMU, cloud-hypervisor and our VMM,
//! while `pmemN` follows whichever namespace was probed first and addresses may grow
//! downwards.

use std::fs;
use std::io;
use std::path::Path;

use crate::wire::Device;

/// The virtio id of a pmem device (virtio 1.4, 5.19).
pub const VIRTIO_ID_PMEM: u32 = 27;

const BUS: &str = "/sys/bus/virtio/devices";

/// Lists the devices that the kernel has found, with or without a driver.
///
/// # Errors
///
/// sysfs cannot be read. A kernel without virtio has no devices.
pub fn list() -> io::Result<Vec<Device>> {
    let entries = match fs::read_dir(BUS) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut devices = Vec::new();
    for entry in entries {
        let dir = match fs::canonicalize(entry?.path()) {
            Ok(dir) => dir,
            // Removed while we looked.
            Err(_) => continue,
        };
        if number(&dir.join("device")) == Some(u64::from(VIRTIO_ID_PMEM)) {
            devices.push(describe(&dir));
        }
    }
    devices.sort_by(|a: &Device, b: &Device| a.parent.cmp(&b.parent));
    for (index, device) in devices.iter_mut().enumerate() {
        device.index = index;
    }
    Ok(devices)
}

fn describe(dir: &Path) -> Device {
    let parent = dir.parent().map(name).unwrap_or_default();
    let mut device = Device {
        virtio: name(dir),
        registers: registers(&parent),
        driver: fs::read_link(dir.join("driver"))
            .ok()
            .map(|link| name(&link)),
        parent,
        ..Device::default()
    };
    for bus in children(dir, "ndbus") {
        for region in children(&dir.join(&bus), "region") {
            let region = dir.join(&bus).join(region);
            device.start = number(&region.join("resource"));
            device.size = number(&region.join("size"));
            for namespace in children(&region, "namespace") {
                let blocks = children(&region.join(namespace).join("block"), "pmem");
                if let Some(block) = blocks.first() {
                    device.path = Some(format!("/dev/{block}"));
                }
            }
        }
    }
    device
}

fn name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The entries of a folder whose name is `prefix` and a number; none if it is not there.
fn children(dir: &Path, prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(name(&entry.ok()?.path())))
        .filter(|name| {
            name.strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        })
        .collect();
    names.sort();
    names
}

/// A number in sysfs, decimal or with 0x.
fn number(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The registers of a platform device, from the first resource that has its name.
pub(crate) fn registers(parent: &str) -> Option<u64> {
    iomem(&fs::read_to_string("/proc/iomem").ok()?, parent)
}

fn iomem(text: &str, device: &str) -> Option<u64> {
    let (range, _) = text.lines().find_map(|line| {
        let (range, owner) = line.trim().split_once(" : ")?;
        // `LNRO0005:00` or, once a driver has it, `LNRO0005:00 virtio-mmio...`.
        let owner = owner.split_whitespace().next()?;
        (owner == device && device.contains("LNRO")).then_some((range, owner))
    })?;
    u64::from_str_radix(range.split_once('-')?.0, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IOMEM: &str = "\
00001000-0009fbff : System RAM
d0000000-d0000fff : LNRO0005:00
  d0000000-d0000fff : LNRO0005:00 LNRO0005:00
d0001000-d0001fff : LNRO0005:01
140000000-14fffffff : Persistent Memory
";

    #[test]
    fn registers_are_found_by_the_whole_name() {
        assert_eq!(iomem(IOMEM, "LNRO0005:00"), Some(0xd000_0000));
        assert_eq!(iomem(IOMEM, "LNRO0005:01"), Some(0xd000_1000));
        assert_eq!(iomem(IOMEM, "LNRO0005:0"), None);
        assert_eq!(iomem(IOMEM, "System"), None);
    }
}
