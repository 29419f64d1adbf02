// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The guest's virtio-pmem driver as sysfs shows it, and the test module that flushes from
//! kernel threads.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use guest_agent::wire::{Device, Outcome, Step};

use crate::inside::context::{Context, Missing};
use crate::inside::guest::{Guest, SHORT};
use crate::inside::machine::Pmem;
use crate::inside::wait;
use crate::job::Driver;

/// Our driver's module in the guest.
const MODULE: &str = "/modules/virtio_pmem_rs.ko";
const FLUSHER: &str = "/modules/flusher.ko";
/// The driver's build with fault hooks, below `/modules`.
pub const FAULTS: &str = "virtio_pmem_rs-faults.ko";

/// Boots a guest whose driver is loaded with these parameters; the kernel's own has none.
pub fn boot(context: &Context, pmem: Vec<Pmem>, parameters: &str) -> Result<Guest> {
    let count = pmem.len();
    if context.trial.driver == Driver::C || parameters.is_empty() {
        let mut guest = context.boot(pmem)?;
        guest.devices(count)?;
        return Ok(guest);
    }
    boot_module(context, pmem, MODULE, parameters)
}

/// Boots a guest with our driver's build with fault hooks.
pub fn boot_faulty(context: &Context, pmem: Vec<Pmem>, parameters: &str) -> Result<Guest> {
    if context.trial.driver == Driver::C {
        return Err(Missing("it needs a build of our driver".to_owned()).into());
    }
    boot_module(context, pmem, &format!("/modules/{FAULTS}"), parameters)
}

fn boot_module(context: &Context, pmem: Vec<Pmem>, path: &str, parameters: &str) -> Result<Guest> {
    let count = pmem.len();
    let mut guest = context.boot_with(pmem, "none")?;
    guest.done(Step::ModuleLoad {
        path: path.to_owned(),
        parameters: parameters.to_owned(),
    })?;
    guest.devices(count)?;
    Ok(guest)
}

/// A file's text in the guest, without the line's end.
pub fn read(guest: &mut Guest, path: &str) -> Result<String> {
    let step = Step::Read {
        path: path.to_owned(),
    };
    match guest.order(step, SHORT)? {
        Outcome::Text(text) => Ok(text.trim().to_owned()),
        other => bail!("the guest answered {other:?} instead of a text"),
    }
}

/// Writes into a file of the guest.
pub fn write(guest: &mut Guest, path: &str, text: &str) -> Result<()> {
    guest.done(Step::Write {
        path: path.to_owned(),
        text: text.to_owned(),
    })
}

fn number(guest: &mut Guest, path: &str) -> Result<u64> {
    let text = read(guest, path)?;
    text.parse()
        .with_context(|| format!("{path}: `{text}` is no number"))
}

/// A device of the guest, bound to a driver.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Its block device.
    pub path: String,
    /// Its parent: a PCI function or a platform device.
    pub parent: String,
    driver: String,
    virtio: String,
}

impl Bound {
    /// The device with this place on the VMM's command line.
    pub fn find(guest: &mut Guest, index: usize) -> Result<Self> {
        Self::of(guest, |device| device.index == index)
    }

    /// It again, after it was bound anew: the block device may have another name.
    pub fn again(&self, guest: &mut Guest) -> Result<Self> {
        Self::of(guest, |device| device.virtio == self.virtio)
    }

    fn of(guest: &mut Guest, wanted: impl Fn(&Device) -> bool) -> Result<Self> {
        let devices = match guest.order(Step::Devices, SHORT)? {
            Outcome::Devices(devices) => devices,
            other => bail!("the guest answered {other:?} instead of its devices"),
        };
        let device = devices
            .iter()
            .find(|device| wanted(device))
            .context("the guest has not found the device")?;
        Ok(Self {
            path: device
                .path
                .clone()
                .with_context(|| format!("{} has no block device", device.virtio))?,
            driver: device
                .driver
                .clone()
                .with_context(|| format!("{} has no driver", device.virtio))?,
            parent: device.parent.clone(),
            virtio: device.virtio.clone(),
        })
    }

    /// How often the kernel's log has this text about the device.
    pub fn logged(&self, guest: &mut Guest, text: &str) -> Result<usize> {
        let log = match guest.order(Step::Dmesg, SHORT)? {
            Outcome::Text(log) => log,
            other => bail!("the guest answered {other:?} instead of its log"),
        };
        // `virtio_pmem_rs virtio2: text`
        let name = format!("{}: ", self.virtio);
        let about = log.lines().filter(|line| line.contains(&name));
        Ok(about.filter(|line| line.contains(text)).count())
    }

    /// One of our driver's counters.
    pub fn counter(&self, guest: &mut Guest, name: &str) -> Result<u64> {
        number(guest, &self.file(name))
    }

    /// Our driver's state of the device.
    pub fn state(&self, guest: &mut Guest) -> Result<String> {
        read(guest, &self.file("state"))
    }

    /// Fails unless the device is in this state.
    pub fn is(&self, guest: &mut Guest, wanted: &str) -> Result<()> {
        let state = self.state(guest)?;
        ensure!(
            state == wanted,
            "the driver says that {} is {state}, not {wanted}",
            self.virtio
        );
        Ok(())
    }

    /// Unbinds it from its driver, which may wait for the host.
    pub fn unbind(&self, guest: &mut Guest, within: Duration) -> Result<()> {
        let step = self.write_to("unbind");
        guest
            .order(step, within)
            .with_context(|| format!("unbind of {}", self.virtio))?;
        Ok(())
    }

    /// Binds it anew, and waits for its block device.
    pub fn bind(&self, guest: &mut Guest) -> Result<Self> {
        self.bind_only(guest)?;
        wait::until("the block device of the bound device", SHORT, || {
            Ok(self.again(guest).ok())
        })
    }

    /// Binds it anew, which may fail.
    pub fn bind_only(&self, guest: &mut Guest) -> Result<()> {
        let step = self.write_to("bind");
        guest
            .order(step, SHORT)
            .with_context(|| format!("bind of {}", self.virtio))?;
        Ok(())
    }

    fn write_to(&self, name: &str) -> Step {
        Step::Write {
            path: format!("/sys/bus/virtio/drivers/{}/{name}", self.driver),
            text: self.virtio.clone(),
        }
    }

    fn file(&self, name: &str) -> String {
        format!("/sys/bus/virtio/devices/{}/flush/{name}", self.virtio)
    }
}

/// Kernel threads that flush without pause, which no freezer stops.
#[derive(Clone, Debug, Default)]
pub struct Flusher {
    /// Threads that flush.
    pub threads: u32,
    /// Threads that write a page with FUA.
    pub fua_threads: u32,
    /// The first page they write: the write's number, from 1 on, as 64 bits.
    pub fua_page: u64,
    /// These writes ask for a flush before them, too.
    pub preflush: bool,
}

/// What the flushes of a [`Flusher`] returned.
#[derive(Clone, Copy, Debug)]
pub struct Flushed {
    /// 0.
    pub done: u64,
    /// `-EIO`.
    pub eio: u64,
    /// `-ETIMEDOUT`.
    pub etimedout: u64,
    /// Any other error.
    pub other: u64,
    /// How long the longest took.
    pub longest: Duration,
}

impl Flushed {
    /// All errors.
    pub fn errors(&self) -> u64 {
        self.eio + self.etimedout + self.other
    }
}

impl Flusher {
    /// Starts the threads on a block device.
    pub fn start(&self, guest: &mut Guest, device: &str) -> Result<()> {
        let Self {
            threads,
            fua_threads,
            fua_page,
            preflush,
        } = self;
        let sector = fua_page * 8;
        let preflush = u8::from(*preflush);
        guest.done(Step::ModuleLoad {
            path: FLUSHER.to_owned(),
            parameters: format!(
                "device={device} threads={threads} fua_threads={fua_threads} fua_sector={sector} \
                 preflush={preflush}"
            ),
        })
    }

    /// What they have counted so far.
    pub fn counts(guest: &mut Guest) -> Result<Flushed> {
        let mut of = |name| number(guest, &format!("/sys/module/flusher/parameters/{name}"));
        Ok(Flushed {
            done: of("done")?,
            eio: of("eio")?,
            etimedout: of("etimedout")?,
            other: of("enodev")? + of("other")?,
            longest: Duration::from_micros(of("longest_us")?),
        })
    }

    /// How many have succeeded so far.
    pub fn done(guest: &mut Guest) -> Result<u64> {
        number(guest, "/sys/module/flusher/parameters/done")
    }

    /// Ends the threads; one that sleeps in a flush is waited for.
    pub fn stop(guest: &mut Guest, within: Duration) -> Result<()> {
        let name = "flusher".to_owned();
        guest
            .order(Step::ModuleUnload { name }, within)
            .context("a kernel thread hangs in a flush")?;
        Ok(())
    }
}
