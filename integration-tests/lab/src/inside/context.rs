// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a scenario is given to work with.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use serde::Serialize;
use serde_json::json;

use crate::inside::cleanup::WORK;
use crate::inside::disk::{Backing, HostFs, Scratch, reserve};
use crate::inside::guest::Guest;
use crate::inside::machine::{Boot, Capability, Maker, Pmem, Qemu, Rest, missing};
use crate::inside::replay::Recorder;
use crate::inside::trial::Said;
use crate::job::{SHARE, Trial, VmmChoice, VmmKind};

/// Size of the ack device. Room for some 1,900 acked blocks.
const ACK_BYTES: u64 = 2 << 20;

/// Guest memory. Small, so that a snapshot is quick.
const GUEST_MIB: u64 = 256;

/// The VMM, kernel or driver lacks what a scenario needs: the trial is skipped.
#[derive(Debug)]
pub struct Missing(pub String);

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Error for Missing {}

/// What tells the loads of a trial from each other: one that starts again where another has been
/// must not take what that one left for its own.
struct Seeds(Cell<u64>);

impl Seeds {
    /// The first load has the trial's own.
    fn new(first: u64) -> Self {
        Self(Cell::new(first))
    }

    fn next(&self) -> u64 {
        let seed = self.0.get();
        self.0.set(seed.wrapping_add(1));
        seed
    }
}

/// A trial as its scenario sees it.
pub struct Context {
    emulated: bool,
    seeds: Seeds,
    /// What is to be run.
    pub trial: Trial,
    maker: Rc<dyn Maker>,
    processes: Rc<Cell<usize>>,
    scratch: Scratch,
}

/// What starts a VMM.
pub fn maker(vmm: &VmmChoice) -> Rc<dyn Maker> {
    match vmm.kind {
        VmmKind::Vmm | VmmKind::CloudHypervisor => Rc::new(Rest::new(&vmm.path)),
        VmmKind::Qemu => Rc::new(Qemu::new(&vmm.path)),
    }
}

impl Context {
    /// A fresh context.
    pub fn new(trial: Trial, emulated: bool) -> Result<Self> {
        let maker = maker(&trial.vmm);
        Said::VmmVersion(maker.version()?).say();
        let scratch = Scratch::open()?;
        Ok(Self {
            emulated,
            maker,
            processes: Rc::default(),
            scratch,
            seeds: Seeds::new(trial.seed),
            trial,
        })
    }

    /// Says that the trial has come to a new step.
    pub fn step(&self, text: &str) {
        Said::Step(text.to_owned()).say();
    }

    /// Records a figure under a name.
    pub fn measure(&self, name: &str, value: impl Serialize) {
        Said::Measured(name.to_owned(), json!(value)).say();
    }

    /// Skips the trial if the VMM lacks one of these.
    pub fn needs(&self, capabilities: &[Capability]) -> Result<()> {
        for capability in capabilities {
            if !self.maker.has(*capability)? {
                return Err(missing(*capability));
            }
        }
        Ok(())
    }

    /// What a management call may take beside the storage it waits for: an
    /// emulated machine is some ten times as slow.
    pub fn slack(&self) -> Duration {
        Duration::from_millis(if self.emulated { 1000 } else { 200 })
    }

    /// A number the user may set with `--set NAME=VALUE`.
    pub fn number(&self, name: &str, default: u64) -> Result<u64> {
        match self.trial.options.get(name) {
            Some(text) => text
                .parse()
                .map_err(|_| anyhow!("--set {name}={text}: `{text}` is no whole number")),
            None => Ok(default),
        }
    }

    /// True if the user wants the scenario's negative control (`--set
    /// control=on`): what it guards against is put in place, and it must fail.
    pub fn is_control(&self) -> bool {
        self.trial
            .options
            .get("control")
            .is_some_and(|value| value == "on")
    }

    /// The seed for the trial's next load: its own one for the first, one more for each further.
    pub fn load_seed(&self) -> u64 {
        self.seeds.next()
    }

    /// A fresh filesystem on a disk of its own, with room for `bytes` of files.
    pub fn backing(&mut self, name: &str, fs: HostFs, bytes: u64) -> Result<Backing> {
        Backing::new(&mut self.scratch, name, fs, bytes)
    }

    /// The disk that backings are cut from.
    pub fn scratch(&mut self) -> &mut Scratch {
        &mut self.scratch
    }

    /// A fresh disk of `bytes` that notes what is done to it, with room for `log` bytes of notes.
    pub fn recorder(&mut self, name: &str, bytes: u64, log: u64) -> Result<Recorder> {
        Recorder::new(name, self.scratch.cut(bytes)?, self.scratch.cut(log)?)
    }

    /// A fresh ack device; its file lies in memory, so that no disk's speed or
    /// failure is in the way of an ack.
    pub fn ack(&self) -> Result<Pmem> {
        let path = Path::new(WORK).join("ack.img");
        reserve(&path, ACK_BYTES)?;
        Ok(Pmem::new("ack", &path))
    }

    /// An empty folder for a snapshot, in memory.
    pub fn snapshot_folder(&self, name: &str) -> Result<PathBuf> {
        let path = Path::new(WORK).join(name);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Boots a guest with these devices and waits until its agent answers.
    pub fn boot(&self, pmem: Vec<Pmem>) -> Result<Guest> {
        self.boot_with(pmem, self.trial.driver.name())
    }

    /// The same with another choice of the guest's driver: `c`, `rust` or `none`.
    pub fn boot_with(&self, pmem: Vec<Pmem>, driver: &str) -> Result<Guest> {
        self.boot_shaped(pmem, driver, |_| {})
    }

    /// The same with a change to what is booted.
    pub fn boot_shaped(
        &self,
        pmem: Vec<Pmem>,
        driver: &str,
        shape: impl FnOnce(&mut Boot),
    ) -> Result<Guest> {
        self.boot_by(&self.maker, pmem, driver, shape)
    }

    /// The VMM under test.
    pub fn maker(&self) -> &Rc<dyn Maker> {
        &self.maker
    }

    /// The same in another VMM than the one under test.
    pub fn boot_by(
        &self,
        maker: &Rc<dyn Maker>,
        mut pmem: Vec<Pmem>,
        driver: &str,
        shape: impl FnOnce(&mut Boot),
    ) -> Result<Guest> {
        self.step("boot the guest");
        // `--set fault=double`: a bad character for the device under test.
        if let (Some(fault), Some(device)) = (self.trial.options.get("fault"), pmem.first_mut()) {
            if !maker.has(Capability::Fault)? {
                return Err(missing(Capability::Fault));
            }
            device.fault = Some(fault.clone());
        }
        let mut boot = self.boot_of(driver, pmem);
        shape(&mut boot);
        Guest::boot(Rc::clone(maker), Rc::clone(&self.processes), &boot)
    }

    fn boot_of(&self, driver: &str, pmem: Vec<Pmem>) -> Boot {
        let images = Path::new(SHARE).join("images");
        let kernel = &self.trial.kernel;
        Boot {
            cmdline: format!(
                "console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check mitigations=off \
                 agent.driver={driver}"
            ),
            cpus: 1,
            initramfs: images.join(format!("initramfs-{kernel}.cpio")),
            kernel: images.join(format!("bzImage-{kernel}")),
            memory_mib: GUEST_MIB,
            name: "",
            pmem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_loads_of_a_trial_write_the_same_and_a_seed_gives_them_again() {
        let of = |seed| {
            let seeds = Seeds::new(seed);
            [seeds.next(), seeds.next(), seeds.next()]
        };
        assert_eq!(of(7), [7, 8, 9]);
        assert_eq!(of(u64::MAX), [u64::MAX, 0, 1]);
    }
}
