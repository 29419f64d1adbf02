// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A private mapping: the guest's writes are its own.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail, ensure};
use guest_agent::wire::{Outcome, Step};

use crate::inside::context::Context;
use crate::inside::disk::HostFs;
use crate::inside::guest::SHORT;
use crate::inside::machine::{Capability, Pmem};
use crate::scenarios::support::{DATA_BYTES, no_errors, raw_load, value};

/// `discard-writes`.
pub fn run(context: &mut Context) -> Result<()> {
    context.needs(&[Capability::DiscardWrites])?;
    let backing = context.backing("data", HostFs::Ext4, DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    let before = state(&data)?;
    let ack = context.ack()?;
    // The control: a shared mapping.
    let device = Pmem {
        discard_writes: !context.is_control(),
        ..Pmem::new("data", &data)
    };
    let mut guest = context.boot(vec![device, ack])?;
    guest.devices(2)?;

    context.step("write and sync");
    let mut spec = raw_load(context, "#0", 2, "#1", 0);
    spec.syncs_per_thread = 20;
    guest.load_start("load", spec)?;
    let report = guest.load_wait("load", Duration::from_secs(60))?;
    no_errors(&report)?;
    context.measure("fsyncs", report.fsyncs);

    context.step("the guest reads what it wrote");
    let step = Step::Verify {
        data: "#0".to_owned(),
        ack: "#1".to_owned(),
        ack_offset: 0,
    };
    match guest.order(step, SHORT)? {
        Outcome::Verify(seen) if seen.holds() => {}
        Outcome::Verify(seen) => bail!("the guest does not read what it wrote: {seen:?}"),
        other => bail!("the guest answered {other:?} instead of a verification"),
    }

    context.step("the file is as it was");
    if let Some(counters) = guest.machine().counters("data")? {
        let [flushes, syncs] = [
            value(&counters, "flushes")?,
            value(&counters, "host_syncs")?,
        ];
        context.measure("flushes_answered", flushes);
        context.measure("host_syncs", syncs);
        ensure!(flushes > 0, "the device counts no flush");
        ensure!(
            syncs == 0,
            "the device synced {syncs} times for a private mapping"
        );
    }
    guest.is_well()?;
    guest.machine().shutdown(SHORT)?;
    let after = state(&data)?;
    ensure!(
        before == after,
        "the file has changed: {before:?}, then {after:?}"
    );
    Ok(())
}

/// Checksum and time of a file's content.
fn state(file: &Path) -> Result<(u32, SystemTime)> {
    let mut reader = File::open(file)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    Ok((hasher.finalize(), fs::metadata(file)?.modified()?))
}
