// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The guest's driver and devices that are taken away under load, by surprise and in order.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use guest_agent::wire::{OnError, Step};

use crate::inside::context::Context;
use crate::inside::driver::{Bound, Flusher, boot, boot_faulty, read, write};
use crate::inside::guest::SHORT;
use crate::inside::machine::{Capability, Refused};
use crate::inside::wait;
use crate::scenarios::driver::faults::{ENDED, accident_met, device, few, room, start};
use crate::scenarios::support::{ms, no_errors};

/// The device goes after so many flushes: both loads have begun by then.
const GONE: u64 = 300;

/// `driver-surprise-removal`.
pub fn surprise(context: &mut Context) -> Result<()> {
    context.needs(&[Capability::Fault])?;
    let backing = room(context, 3)?;
    let pmem = vec![
        device(&backing, "ones", Some(&format!("gone:{GONE}")))?,
        device(&backing, "zeros", Some(&format!("gone-zeros:{GONE}")))?,
        device(&backing, "stays", None)?,
    ];
    // The driver sees either from the status: it needs no deadline.
    let mut guest = boot(context, pmem, "")?;
    // Each is the first in the list: the bus forgets the one before it.
    let index = 0;
    for name in ["ones", "zeros"] {
        context.step(&format!(
            "pull a device whose registers then read as {name}"
        ));
        let bound = Bound::find(&mut guest, index)?;
        let flusher = Flusher {
            threads: 2,
            fua_threads: 2,
            fua_page: 2048,
            ..Flusher::default()
        };
        start(context, &mut guest, name, index, (OnError::Stop, 0))?;
        flusher.start(&mut guest, &bound.path)?;
        let report = guest
            .load_wait(name, ENDED)
            .context("who waits for the device is not told")?;
        accident_met(context, &report).with_context(|| name.to_owned())?;
        let failed = wait::until("an error for the kernel's threads", ENDED, || {
            let met = Flusher::counts(&mut guest)?;
            Ok((met.errors() >= 16).then_some(met))
        })?;
        Flusher::stop(&mut guest, SHORT)?;
        context.measure(&format!("{name}_longest_flush_ms"), ms(failed.longest));
        bound.is(&mut guest, "broken")?;
        let said = bound.logged(&mut guest, "broken:")?;
        ensure!(said == 1, "the driver says so {said} times");

        context.step(&format!("take it away ({name})"));
        let begun = Instant::now();
        if name == "ones" {
            // The bus has noticed: the transport's driver lets go of the whole device.
            guest.done(Step::Write {
                path: "/sys/bus/platform/drivers/virtio-mmio/unbind".to_owned(),
                text: bound.parent.clone(),
            })?;
        } else {
            bound.unbind(&mut guest, SHORT)?;
        }
        context.measure(&format!("{name}_unbind_ms"), ms(begun.elapsed()));
    }
    context.step("the device that stays");
    // The first one is no longer in the list.
    let report = few(context, &mut guest, "stays", 1)?;
    no_errors(&report)?;
    // The virtio core and the transport's driver warn of a status and of a queue that read back
    // as ones after they were written as 0 (virtio.c, virtio_mmio.c).
    guest.is_well_but(&["virtio_dev_remove", "vm_del_vqs", "Call Trace:"])?;
    guest.machine().alive()
}

/// `driver-unplug`.
pub fn unplug(context: &mut Context) -> Result<()> {
    let backing = room(context, 2)?;
    let pmem = vec![
        device(&backing, "data", None)?,
        device(&backing, "stays", None)?,
    ];
    let mut guest = if context.is_control() {
        boot_faulty(context, pmem, "remove_timeout_ms=2000")?
    } else {
        boot(context, pmem, "")?
    };
    let bound = Bound::find(&mut guest, 0)?;
    context.step("unplug the device under load");
    let flusher = Flusher {
        threads: 4,
        fua_threads: 0,
        fua_page: 0,
        ..Flusher::default()
    };
    flusher.start(&mut guest, &bound.path)?;
    start(context, &mut guest, "load", 0, (OnError::Stop, 0))?;
    wait::until("flushes", SHORT, || {
        Ok((Flusher::done(&mut guest)? >= 50).then_some(()))
    })?;
    // The control: the driver loses the answer to a flush, whose waiter it still has when it is removed.
    if context.is_control() {
        let lost = "/sys/module/virtio_pmem_rs/parameters/drop_completion";
        write(&mut guest, lost, "1")?;
        wait::until("an answer to be lost", SHORT, || {
            Ok((read(&mut guest, lost)? == "0").then_some(()))
        })?;
    }
    let by_host = match guest.machine().unplug("data") {
        Ok(()) => true,
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(refused) => {
                context.measure("unplug_refused", &refused.text);
                false
            }
            None => return Err(error),
        },
    };
    context.measure("unplugged_by_the_host", by_host);
    if !by_host {
        // QEMU takes no virtio-pmem device out, whatever slot it is in ("this virtio based memory
        // devices cannot be unplugged"). This is what the guest would do if a host asked for it.
        guest
            .order(
                Step::Write {
                    path: format!("/sys/bus/pci/devices/{}/remove", bound.parent),
                    text: "1".to_owned(),
                },
                SHORT,
            )
            .context("removal of the PCI function under load")?;
    }
    let report = guest.load_wait("load", ENDED)?;
    context.measure("fsyncs_before", report.fsyncs);
    ensure!(
        report.fsyncs > 0,
        "the run does not count: no sync before it"
    );
    let met = Flusher::counts(&mut guest)?;
    context.measure("flushes_of_kernel_threads", met.done);
    Flusher::stop(&mut guest, SHORT)?;
    let said = bound.logged(&mut guest, "broken:")?;
    ensure!(said == 0, "an orderly removal broke the device");
    let last = no_errors(&few(context, &mut guest, "stays", 0)?);
    last.context("the device that stays")?;
    if !by_host {
        context.step("plug it in again");
        write(&mut guest, "/sys/bus/pci/rescan", "1")?;
        guest.devices(2)?;
        let back = no_errors(&few(context, &mut guest, "back", 0)?);
        back.context("the device that came back")?;
    }
    guest.is_well()?;
    guest.machine().alive()
}
