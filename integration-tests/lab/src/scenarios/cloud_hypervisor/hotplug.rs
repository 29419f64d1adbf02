// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Devices that come and go under load.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::inside::acks::Acks;
use crate::inside::context::Context;
use crate::inside::disk::{HostFs, Table};
use crate::inside::guest::{Guest, SHORT};
use crate::inside::machine::{Capability, Pmem, refusal};
use crate::inside::wait;
use crate::scenarios::support::{
    DATA_BYTES, SECOND_ACK, STOP, answered_once, no_errors, raw_load, verified,
};

/// What a flush of the added device's disk takes: removals meet one in flight.
const COST_MS: u32 = 20;
/// Additions and removals.
const ROUNDS: u64 = 3;
/// Syncs between the steps.
const SOME: u64 = 20;

/// `hotplug-under-load`.
pub fn run(context: &mut Context) -> Result<()> {
    context.needs(&[Capability::Hotplug])?;
    let rounds = context.number("rounds", ROUNDS)?;
    let stay = context.backing("stay", HostFs::Ext4, 2 * DATA_BYTES)?;
    let stay_file = stay.written_file("pmem.img", DATA_BYTES)?;
    let come = context.backing("come", HostFs::Ext4, 2 * DATA_BYTES)?;
    let come_file = come.written_file("pmem.img", DATA_BYTES)?;
    let ack = context.ack()?;
    let ack_file = ack.file.clone();
    let mut guest = context.boot(vec![Pmem::new("stay", &stay_file), ack])?;
    guest.devices(2)?;
    // Counters are for VMMs that have them.
    let before = guest.machine().counters("stay")?;
    come.disk(Table::FlushCost(COST_MS))?;
    guest.load_start("stay", raw_load(context, "#0", 2, "#1", 0))?;
    let stays = Acks::new(&ack_file, 0);
    let comes = Acks::new(&ack_file, SECOND_ACK);

    let device = Pmem::new("come", &come_file);
    let mut verified_writes = 0;
    let mut with_errors = 0;
    for round in 1..=rounds {
        context.step(&format!("add under load: {round} of {rounds}"));
        guest.machine().add_pmem(&device)?;
        guest.devices(3)?;
        if before.is_some() {
            refusal(
                guest.machine().add_pmem(&Pmem {
                    id: "twice".to_owned(),
                    ..device.clone()
                }),
                "a second device on the same file",
                "locked",
            )?;
        }
        let spec = raw_load(context, "#2", 2, "#1", SECOND_ACK);
        guest.load_start("come", spec)?;
        comes.go_on(SOME, SHORT)?;

        context.step(&format!("remove under load: {round} of {rounds}"));
        guest.machine().remove_device("come")?;
        gone(&mut guest)?;
        stays.go_on(SOME, SHORT)?;
        let report = guest.load_stop("come", STOP)?;
        with_errors += u64::from(report.errors > 0);
        let found = verified(&come_file, &ack_file, SECOND_ACK)?;
        verified_writes += found.acked_writes;
        guest.machine().alive()?;
    }
    context.measure("rounds", rounds);
    context.measure("removals_that_the_load_saw", with_errors);
    context.measure("acked_writes_verified_on_the_removed", verified_writes);
    ensure!(
        with_errors == rounds,
        "the run does not count: {with_errors} of {rounds} removals met the load"
    );

    context.step("pause, and stop the load that stayed");
    guest.pause()?;
    guest.resume()?;
    let report = guest.load_stop("stay", STOP)?;
    no_errors(&report)?;
    if let (Some(before), Some(after)) = (before, guest.machine().counters("stay")?) {
        answered_once(context, report.fsyncs, &before, &after)?;
    }
    guest.is_well()?;
    guest.machine().shutdown(SHORT)?;
    let found = verified(&stay_file, &ack_file, 0)?;
    context.measure("acked_writes_verified", found.acked_writes);
    Ok(())
}

/// Waits until the guest has given the device up.
fn gone(guest: &mut Guest) -> Result<()> {
    wait::until("the removed device's end", Duration::from_secs(60), || {
        Ok((!guest.machine().has_device("come")?).then_some(()))
    })
}
