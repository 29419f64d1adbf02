// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! virtio-mmio registers (virtio 1.4, 4.2.2) through `/dev/mem`.
//!
//! Debian's cloud kernel has STRICT_DEVMEM, which lets registers through and keeps memory
//! out, and IO_STRICT_DEVMEM, which keeps out what a driver has claimed: unbind it first.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use crate::devices;
use crate::hostile::HostileError;
use crate::hostile::memory::Window;
use crate::hostile::transport::{Transport, halves};

const MAGIC: usize = 0x00;
const VERSION: usize = 0x04;
const DEVICE_ID: usize = 0x08;
const DEVICE_FEATURES: usize = 0x10;
const DEVICE_FEATURES_SEL: usize = 0x14;
const DRIVER_FEATURES: usize = 0x20;
const DRIVER_FEATURES_SEL: usize = 0x24;
const QUEUE_SEL: usize = 0x30;
const QUEUE_NUM_MAX: usize = 0x34;
const QUEUE_NUM: usize = 0x38;
const QUEUE_READY: usize = 0x44;
const QUEUE_NOTIFY: usize = 0x50;
const INTERRUPT_STATUS: usize = 0x60;
const INTERRUPT_ACK: usize = 0x64;
const STATUS: usize = 0x70;
const QUEUE_DESC: usize = 0x80;
const QUEUE_DRIVER: usize = 0x90;
const QUEUE_DEVICE: usize = 0xa0;

const PAGE: u64 = 4096;
const SIZE: usize = 0x200;

/// A platform device that is a virtio-pmem.
pub(super) struct Platform {
    pub(super) name: String,
    pub(super) address: u64,
}

/// The virtio-pmem devices among the platform's, whether a driver has them or not.
pub(super) fn devices() -> Vec<Platform> {
    let Ok(entries) = fs::read_dir("/sys/bus/platform/devices") else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| name.starts_with("LNRO0005:"))
        .collect();
    names.sort();
    let known = devices::list().unwrap_or_default();
    names
        .into_iter()
        .filter_map(|name| {
            let address = devices::registers(&name)?;
            // A driver's devices are in sysfs; the registers of the others can be read.
            let is_pmem =
                known.iter().any(|device| device.parent == name) || Mmio::open(address).is_ok();
            is_pmem.then_some(Platform { name, address })
        })
        .collect()
}

/// A device's registers.
pub(super) struct Mmio {
    window: Window,
    base: usize,
}

impl Mmio {
    pub(super) fn open(address: u64) -> Result<Self, HostileError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_SYNC)
            .open("/dev/mem")
            .map_err(HostileError::io("open /dev/mem"))?;
        let base = usize::try_from(address % PAGE).unwrap_or(0);
        let window = Window::map(&file, address - address % PAGE, base + SIZE)
            .map_err(HostileError::io(format!("map registers at {address:#x}")))?;
        let mmio = Self { window, base };
        let magic = mmio.read(MAGIC).to_le_bytes();
        let id = mmio.read(DEVICE_ID);
        if magic != *b"virt" || mmio.read(VERSION) != 2 || id != devices::VIRTIO_ID_PMEM {
            return Err(HostileError::Device {
                device: format!("{address:#x}"),
                why: format!("no virtio-pmem registers there (magic {magic:?}, device id {id})"),
            });
        }
        Ok(mmio)
    }

    fn read(&self, register: usize) -> u32 {
        u32::from_le(self.window.read(self.base + register))
    }

    fn write(&mut self, register: usize, value: u32) {
        self.window.write(self.base + register, value.to_le());
    }

    fn write_address(&mut self, register: usize, address: u64) {
        let [low, high] = halves(address);
        self.write(register, low);
        self.write(register + 4, high);
    }
}

impl Transport for Mmio {
    fn name(&self) -> &'static str {
        "mmio"
    }

    fn status(&self) -> u8 {
        let [status, ..] = self.read(STATUS).to_le_bytes();
        status
    }

    fn set_status(&mut self, status: u8) {
        self.write(STATUS, u32::from(status));
    }

    fn features(&mut self) -> u64 {
        self.write(DEVICE_FEATURES_SEL, 0);
        let low = self.read(DEVICE_FEATURES);
        self.write(DEVICE_FEATURES_SEL, 1);
        u64::from(low) | (u64::from(self.read(DEVICE_FEATURES)) << 32)
    }

    fn set_features(&mut self, features: u64) {
        for (select, half) in (0..).zip(halves(features)) {
            self.write(DRIVER_FEATURES_SEL, select);
            self.write(DRIVER_FEATURES, half);
        }
    }

    fn max_queue_size(&mut self) -> u16 {
        self.write(QUEUE_SEL, 0);
        u16::try_from(self.read(QUEUE_NUM_MAX)).unwrap_or(u16::MAX)
    }

    fn set_queue(&mut self, size: u16, descriptors: u64, avail: u64, used: u64) {
        self.write(QUEUE_SEL, 0);
        self.write(QUEUE_NUM, u32::from(size));
        self.write_address(QUEUE_DESC, descriptors);
        self.write_address(QUEUE_DRIVER, avail);
        self.write_address(QUEUE_DEVICE, used);
        self.write(QUEUE_READY, 1);
    }

    fn kick(&mut self) {
        self.write(QUEUE_NOTIFY, 0);
    }

    fn interrupt_status(&mut self) -> u32 {
        let status = self.read(INTERRUPT_STATUS);
        self.write(INTERRUPT_ACK, status);
        status
    }
}
