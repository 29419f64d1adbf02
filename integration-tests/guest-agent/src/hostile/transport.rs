// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the two transports have in common (virtio 1.4, 2.1 and 3.1).

use std::fs;
use std::path::Path;

use crate::hostile::mmio::Mmio;
use crate::hostile::pci::{self, Pci};
use crate::hostile::unbind::Unbound;
use crate::hostile::{HostileError, mmio};
use crate::wire::HostileTarget;

pub(super) const ACKNOWLEDGE: u8 = 1;
pub(super) const DRIVER: u8 = 2;
pub(super) const DRIVER_OK: u8 = 4;
pub(super) const FEATURES_OK: u8 = 8;
pub(super) const NEEDS_RESET: u8 = 64;
pub(super) const VERSION_1: u64 = 1 << 32;

/// A device's registers. Queue 0 is the only one.
pub(super) trait Transport {
    fn name(&self) -> &'static str;
    fn status(&self) -> u8;
    fn set_status(&mut self, status: u8);
    fn features(&mut self) -> u64;
    fn set_features(&mut self, features: u64);
    fn max_queue_size(&mut self) -> u16;
    fn set_queue(&mut self, size: u16, descriptors: u64, avail: u64, used: u64);
    fn kick(&mut self);
    /// Reads the interrupt status and clears it.
    fn interrupt_status(&mut self) -> u32;
}

pub(super) fn halves(value: u64) -> [u32; 2] {
    let bytes = value.to_le_bytes();
    let [a, b, c, d, e, f, g, h] = bytes;
    [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    ]
}

/// Takes a device away from its kernel driver and opens its registers.
pub(super) fn open(target: &HostileTarget) -> Result<(Box<dyn Transport>, Unbound), HostileError> {
    match target {
        HostileTarget::Pci(name) => open_pci(name),
        HostileTarget::Mmio(address) => Ok((Box::new(Mmio::open(*address)?), Unbound::nothing())),
        HostileTarget::Index(index) => {
            let functions = pci::functions();
            if let Some(name) = functions.get(*index) {
                return open_pci(name);
            }
            let platform = mmio::devices();
            let Some(device) = index
                .checked_sub(functions.len())
                .and_then(|i| platform.get(i))
            else {
                return Err(HostileError::Device {
                    device: index.to_string(),
                    why: format!(
                        "there are {} virtio-pmem devices, counted from 0",
                        functions.len() + platform.len()
                    ),
                });
            };
            let path = Path::new("/sys/bus/platform/devices").join(&device.name);
            let unbound = Unbound::from_device(&path)?;
            Ok((Box::new(Mmio::open(device.address)?), unbound))
        }
    }
}

fn open_pci(name: &str) -> Result<(Box<dyn Transport>, Unbound), HostileError> {
    let path = Path::new("/sys/bus/pci/devices").join(name);
    if fs::metadata(&path).is_err() {
        return Err(HostileError::Device {
            device: name.to_owned(),
            why: format!("there is no {}", path.display()),
        });
    }
    let unbound = Unbound::from_device(&path)?;
    Ok((Box::new(Pci::open(&path)?), unbound))
}
