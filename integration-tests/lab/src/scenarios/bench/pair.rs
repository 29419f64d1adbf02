// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What is compared: a VMM's device with a guest's driver, several of them side by side in one
//! lab, so that each measurement of one has a neighbour of the other.

use std::path::Path;

use anyhow::Result;

use crate::inside::context::{Context, maker};
use crate::inside::disk::Backing;
use crate::inside::guest::Guest;
use crate::inside::machine::Pmem;
use crate::job::{Driver, SHARE, VmmChoice, VmmKind};

/// Where `lab bench --stock` and `--patched` put the user's binaries.
pub const STOCK: &str = "bin/stock";
/// See [`STOCK`].
pub const PATCHED: &str = "bin/patched";

/// A device and a driver.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pair {
    /// `serial`, `engine`, or `stock` and `patched` for the user's cloud-hypervisor binaries.
    pub device: &'static str,
    /// The guest's driver.
    pub driver: Driver,
    /// Both, as a file's name.
    pub name: &'static str,
}

const fn pair(device: &'static str, driver: Driver, name: &'static str) -> Pair {
    Pair {
        device,
        driver,
        name,
    }
}

const OURS: [Pair; 4] = [
    pair("serial", Driver::C, "-serial-c"),
    pair("engine", Driver::Rust, "-engine-rust"),
    pair("serial", Driver::Rust, "-serial-rust"),
    pair("engine", Driver::C, "-engine-c"),
];

const THEIRS: [Pair; 4] = [
    pair("stock", Driver::C, "-stock-c"),
    pair("patched", Driver::Rust, "-patched-rust"),
    pair("stock", Driver::Rust, "-stock-rust"),
    pair("patched", Driver::C, "-patched-c"),
];

/// The four pairs, the stock-like and the best first; with `--set pairs=2` only those.
pub fn pairs(context: &Context) -> Result<Vec<Pair>> {
    let all = if Path::new(SHARE).join(STOCK).exists() {
        THEIRS
    } else {
        OURS
    };
    let count = usize::try_from(context.number("pairs", 4)?)?.clamp(1, all.len());
    Ok(all[..count].to_vec())
}

/// A pair's guest with its one device `data`.
pub struct Side {
    /// What it is.
    pub pair: Pair,
    /// Its guest.
    pub guest: Guest,
}

impl Side {
    /// Boots the pair's guest with a fresh file on `backing`.
    pub fn boot(context: &Context, pair: Pair, backing: &Backing, bytes: u64) -> Result<Self> {
        let file = backing.written_file(&format!("pmem{}.img", pair.name), bytes)?;
        let device = Pmem {
            fault: (pair.device == "serial").then(|| "serial".to_owned()),
            ..Pmem::new("data", &file)
        };
        let vmm = match pair.device {
            "serial" => vmm(VmmKind::Vmm, "bin/vmm-fault"),
            "engine" => vmm(VmmKind::Vmm, "bin/vmm"),
            "stock" => vmm(VmmKind::CloudHypervisor, STOCK),
            _ => vmm(VmmKind::CloudHypervisor, PATCHED),
        };
        let driver = pair.driver.name();
        let mut guest = context.boot_by(&maker(&vmm), vec![device], driver, |boot| {
            boot.name = pair.name;
        })?;
        guest.devices(1)?;
        Ok(Self { pair, guest })
    }
}

fn vmm(kind: VmmKind, path: &str) -> VmmChoice {
    VmmChoice {
        kind,
        path: Path::new(SHARE).join(path),
    }
}
