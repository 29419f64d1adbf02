// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! virtio-pci registers (virtio 1.4, 4.1.4) through the BARs in sysfs.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::hostile::HostileError;
use crate::hostile::memory::Window;
use crate::hostile::transport::{Transport, halves};

/// 0x1040 and the virtio id.
const IDS: (&str, &str) = ("0x1af4", "0x105b");

const COMMON_CFG: u8 = 1;
const NOTIFY_CFG: u8 = 2;
const ISR_CFG: u8 = 3;

const DEVICE_FEATURE_SELECT: usize = 0x00;
const DEVICE_FEATURE: usize = 0x04;
const DRIVER_FEATURE_SELECT: usize = 0x08;
const DRIVER_FEATURE: usize = 0x0c;
const DEVICE_STATUS: usize = 0x14;
const QUEUE_SELECT: usize = 0x16;
const QUEUE_SIZE: usize = 0x18;
const QUEUE_ENABLE: usize = 0x1c;
const QUEUE_NOTIFY_OFF: usize = 0x1e;
const QUEUE_DESC: usize = 0x20;
const QUEUE_DRIVER: usize = 0x28;
const QUEUE_DEVICE: usize = 0x30;

/// The names of all virtio-pmem functions, by address.
pub(super) fn functions() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/bus/pci/devices") else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| is_pmem(&entry.path()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn is_pmem(device: &Path) -> bool {
    let id = |name| {
        fs::read_to_string(device.join(name))
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    (id("vendor").as_str(), id("device").as_str()) == IDS
}

/// Where a structure lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Place {
    bar: u8,
    offset: usize,
    /// Of a notify structure: how far apart the queues' registers are.
    multiplier: usize,
}

/// Walks the capability list of a configuration space for virtio's structures; the first of
/// each type counts (4.1.4).
fn places(config: &[u8]) -> BTreeMap<u8, Place> {
    let byte = |at: usize| config.get(at).copied().unwrap_or(0);
    let word = |at: usize| {
        let number = u32::from_le_bytes([byte(at), byte(at + 1), byte(at + 2), byte(at + 3)]);
        usize::try_from(number).unwrap_or(usize::MAX)
    };
    let mut places = BTreeMap::new();
    let mut at = usize::from(byte(0x34) & !3);
    // A list of 4-byte entries in 256 bytes: a longer walk is a loop.
    for _ in 0..64 {
        if at == 0 {
            break;
        }
        if byte(at) == 0x09 {
            places.entry(byte(at + 3)).or_insert(Place {
                bar: byte(at + 4),
                offset: word(at + 8),
                multiplier: word(at + 16),
            });
        }
        at = usize::from(byte(at + 1) & !3);
    }
    places
}

/// A device's registers.
pub(super) struct Pci {
    bars: BTreeMap<u8, Window>,
    common: Place,
    notify: Place,
    isr: Place,
}

impl Pci {
    pub(super) fn open(device: &Path) -> Result<Self, HostileError> {
        if !is_pmem(device) {
            return Err(HostileError::Device {
                device: device.display().to_string(),
                why: "it is no virtio-pmem function".to_owned(),
            });
        }
        let path = device.join("config");
        let config = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(HostileError::io(format!("open {}", path.display())))?;
        enable(&config).map_err(HostileError::io(format!("write {}", path.display())))?;
        let mut bytes = [0; 256];
        config
            .read_exact_at(&mut bytes, 0)
            .map_err(HostileError::io(format!("read {}", path.display())))?;
        let places = places(&bytes);
        let mut bars = BTreeMap::new();
        for place in places.values().filter(|place| place.bar < 6) {
            if let Entry::Vacant(free) = bars.entry(place.bar) {
                let path = device.join(format!("resource{}", place.bar));
                let Ok(file) = OpenOptions::new().read(true).write(true).open(&path) else {
                    continue;
                };
                let what = || format!("map {}", path.display());
                let len = file.metadata().map_err(HostileError::io(what()))?.len();
                let len = usize::try_from(len).unwrap_or(0);
                free.insert(Window::map(&file, 0, len).map_err(HostileError::io(what()))?);
            }
        }
        let place = |kind| {
            places
                .get(&kind)
                .copied()
                .filter(|place| bars.contains_key(&place.bar))
                .ok_or_else(|| {
                    HostileError::Virtio(format!("has no virtio structure of type {kind} in a BAR"))
                })
        };
        Ok(Self {
            common: place(COMMON_CFG)?,
            notify: place(NOTIFY_CFG)?,
            isr: place(ISR_CFG)?,
            bars,
        })
    }

    fn bar(&self, place: Place) -> &Window {
        &self.bars[&place.bar]
    }

    fn read16(&self, register: usize) -> u16 {
        u16::from_le(self.bar(self.common).read(self.common.offset + register))
    }

    fn write16(&self, register: usize, value: u16) {
        self.bar(self.common)
            .write(self.common.offset + register, value.to_le());
    }

    fn read32(&self, register: usize) -> u32 {
        u32::from_le(self.bar(self.common).read(self.common.offset + register))
    }

    fn write32(&self, register: usize, value: u32) {
        self.bar(self.common)
            .write(self.common.offset + register, value.to_le());
    }

    fn write_address(&self, register: usize, address: u64) {
        let [low, high] = halves(address);
        self.write32(register, low);
        self.write32(register + 4, high);
    }
}

/// Memory decoding and bus mastering on, INTx off: nobody would answer it.
fn enable(config: &File) -> io::Result<()> {
    const COMMAND: u64 = 4;
    const BITS: u16 = 0x0002 | 0x0004 | 0x0400;
    let mut bytes = [0; 2];
    config.read_exact_at(&mut bytes, COMMAND)?;
    let command = u16::from_le_bytes(bytes) | BITS;
    config.write_all_at(&command.to_le_bytes(), COMMAND)
}

impl Transport for Pci {
    fn name(&self) -> &'static str {
        "pci"
    }

    fn status(&self) -> u8 {
        self.bar(self.common)
            .read(self.common.offset + DEVICE_STATUS)
    }

    fn set_status(&mut self, status: u8) {
        self.bar(self.common)
            .write(self.common.offset + DEVICE_STATUS, status);
    }

    fn features(&mut self) -> u64 {
        self.write32(DEVICE_FEATURE_SELECT, 0);
        let low = self.read32(DEVICE_FEATURE);
        self.write32(DEVICE_FEATURE_SELECT, 1);
        u64::from(low) | (u64::from(self.read32(DEVICE_FEATURE)) << 32)
    }

    fn set_features(&mut self, features: u64) {
        for (select, half) in (0..).zip(halves(features)) {
            self.write32(DRIVER_FEATURE_SELECT, select);
            self.write32(DRIVER_FEATURE, half);
        }
    }

    fn max_queue_size(&mut self) -> u16 {
        self.write16(QUEUE_SELECT, 0);
        self.read16(QUEUE_SIZE)
    }

    fn set_queue(&mut self, size: u16, descriptors: u64, avail: u64, used: u64) {
        self.write16(QUEUE_SELECT, 0);
        self.write16(QUEUE_SIZE, size);
        self.write_address(QUEUE_DESC, descriptors);
        self.write_address(QUEUE_DRIVER, avail);
        self.write_address(QUEUE_DEVICE, used);
        self.write16(QUEUE_ENABLE, 1);
    }

    fn kick(&mut self) {
        self.write16(QUEUE_SELECT, 0);
        let queue = usize::from(self.read16(QUEUE_NOTIFY_OFF));
        let at = self.notify.offset + queue * self.notify.multiplier;
        self.bar(self.notify).write(at, 0u16);
    }

    fn interrupt_status(&mut self) -> u32 {
        u32::from(self.bar(self.isr).read::<u8>(self.isr.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts a virtio capability at `at`.
    fn capability(config: &mut [u8], at: usize, next: u8, kind: u8, bar: u8, offset: u32) {
        config[at] = 0x09;
        config[at + 1] = next;
        config[at + 3] = kind;
        config[at + 4] = bar;
        config[at + 8..at + 12].copy_from_slice(&offset.to_le_bytes());
        config[at + 16..at + 20].copy_from_slice(&4u32.to_le_bytes());
    }

    #[test]
    fn the_first_structure_of_each_type_counts() {
        let mut config = [0; 256];
        config[0x34] = 0x40;
        capability(&mut config, 0x40, 0x60, COMMON_CFG, 4, 0);
        // Another vendor's capability in between.
        config[0x60..0x62].copy_from_slice(&[0x11, 0x80]);
        capability(&mut config, 0x80, 0xa0, NOTIFY_CFG, 4, 0x3000);
        capability(&mut config, 0xa0, 0, NOTIFY_CFG, 2, 0x9000);
        let places = places(&config);
        assert_eq!(places[&COMMON_CFG].offset, 0);
        assert_eq!(
            places[&NOTIFY_CFG],
            Place {
                bar: 4,
                offset: 0x3000,
                multiplier: 4
            }
        );
        assert_eq!(places.len(), 2);
    }

    #[test]
    fn a_capability_list_in_a_circle_ends() {
        let mut config = [0; 256];
        config[0x34] = 0x40;
        capability(&mut config, 0x40, 0x40, COMMON_CFG, 4, 0);
        assert_eq!(places(&config).len(), 1);
    }
}
