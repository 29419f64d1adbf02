// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A snapshot that an unpatched VMM has taken.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Result, anyhow, ensure};

use crate::inside::acks::Acks;
use crate::inside::context::{Context, Missing};
use crate::inside::disk::{HostFs, Table};
use crate::inside::guest::SHORT;
use crate::inside::machine::{Capability, Maker, Pmem, Rest, Restore};
use crate::job::{SHARE, STOCK_VMM};
use crate::scenarios::support::{DATA_BYTES, STOP, all_verified, no_errors, raw_load, value};

/// What a flush of the disk takes.
const COST_MS: u32 = 50;
/// Syncs before and after.
const SOME: u64 = 20;

/// `stock-snapshot`.
pub fn run(context: &mut Context) -> Result<()> {
    context.needs(&[Capability::Snapshot])?;
    let stock = Path::new(SHARE).join(STOCK_VMM);
    if !stock.exists() {
        let text = "no unpatched VMM: --set stock=PATH names one".to_owned();
        return Err(anyhow!(Missing(text)));
    }
    let stock: Rc<dyn Maker> = Rc::new(Rest::new(&stock));
    context.measure("stock", stock.version()?);
    let backing = context.backing("data", HostFs::Ext4, 2 * DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    let ack = context.ack()?;
    let ack_file = ack.file.clone();
    let acks = Acks::new(&ack_file, 0);
    let devices = vec![Pmem::new("data", &data), ack];
    let mut guest = context.boot_by(&stock, devices, context.trial.driver.name(), |_| {})?;
    guest.devices(2)?;
    ensure!(
        guest.machine().counters("data")?.is_none(),
        "the VMM that was named as unpatched counts flushes"
    );
    backing.disk(Table::FlushCost(COST_MS))?;
    guest.load_start("load", raw_load(context, "#0", 4, "#1", 0))?;
    acks.go_on(SOME, SHORT)?;

    context.step("the unpatched VMM takes a snapshot");
    guest.pause()?;
    let folder = context.snapshot_folder("snapshot")?;
    guest.snapshot(&folder)?;
    guest.kill()?;

    context.step("the one under test restores it");
    guest.hand_over(Rc::clone(context.maker()));
    guest.restore(&Restore {
        allow_stale: false,
        from: folder,
    })?;
    guest.resume()?;
    acks.go_on(SOME, SHORT)?;

    context.step("it takes its own, and restores that");
    guest.pause()?;
    let folder = context.snapshot_folder("second")?;
    guest.snapshot(&folder)?;
    guest.kill()?;
    guest.restore(&Restore {
        allow_stale: false,
        from: folder,
    })?;
    guest.resume()?;
    acks.go_on(SOME, SHORT)?;
    let report = guest.load_stop("load", STOP)?;
    no_errors(&report)?;
    let counters = guest.counters("data")?;
    ensure!(
        value(&counters, "errors")? == 0 && value(&counters, "flushes")? > 0,
        "the device counts {counters:?}"
    );
    backing.disk(Table::Plain)?;
    guest.is_well()?;
    guest.machine().shutdown(SHORT)?;
    let found = all_verified(&data, &ack_file, &report)?;
    context.measure("acked_writes_verified", found.acked_writes);
    Ok(())
}
