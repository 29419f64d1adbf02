// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A private mapping in a snapshot: nothing is lost, or it is said.

use std::fs::File;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use guest_agent::wire::{Filesystem, Step};

use crate::inside::context::Context;
use crate::inside::disk::HostFs;
use crate::inside::events;
use crate::inside::guest::{Guest, SHORT};
use crate::inside::machine::{Capability, Pmem, Restore, refusal};
use crate::scenarios::support::{DATA_BYTES, no_errors, raw_load};

const MOUNT: &str = "/mnt/data";
/// The event of a snapshot without the guest's writes.
const LOST: &str = "discarded-writes-not-in-snapshot";

/// `discard-writes-snapshot`.
pub fn run(context: &mut Context) -> Result<()> {
    context.needs(&[Capability::DiscardWrites, Capability::Snapshot])?;
    let backing = context.backing("data", HostFs::Ext4, DATA_BYTES)?;
    let data = backing.written_file("pmem.img", DATA_BYTES)?;
    let mut guest = context.boot(vec![Pmem::new("data", &data)])?;
    guest.devices(1)?;
    let rc = guest.mkfs(Filesystem::Ext4, "#0")?;
    ensure!(rc == 0, "mkfs ended with {rc}");
    guest.machine().shutdown(SHORT)?;

    let image = Pmem {
        discard_writes: true,
        ..Pmem::new("data", &data)
    };
    let ack = context.ack()?;
    let mut guest = context.boot(vec![image, ack])?;
    guest.devices(2)?;
    mount_read_only(&mut guest)?;

    context.step("a guest that only reads: snapshotted in silence, restored on a copy");
    guest.pause()?;
    let folder = context.snapshot_folder("read")?;
    guest.snapshot(&folder).context("nothing was written")?;
    ensure!(lost_pages(&mut guest)?.is_empty(), "told of no loss");
    guest.kill()?;
    // Another host's copy of the image: the same bytes at another time.
    let copy = File::options().write(true).open(&data)?;
    copy.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))?;
    guest.restore(&Restore {
        allow_stale: false,
        from: folder,
    })?;
    guest.resume()?;
    guest.umount(MOUNT)?;
    mount_read_only(&mut guest)?;
    guest.umount(MOUNT)?;

    context.step("a guest that has written: refused by name, taken by override");
    let mut spec = raw_load(context, "#0", 1, "#1", 0);
    spec.syncs_per_thread = 10;
    guest.load_start("load", spec)?;
    no_errors(&guest.load_wait("load", SHORT)?)?;
    guest.pause()?;
    let folder = context.snapshot_folder("written")?;
    let text = refusal(
        guest.snapshot(&folder).map(drop),
        "a snapshot without the guest's writes",
        "discard_writes",
    )?;
    context.measure("refusal", text);
    let folder = context.snapshot_folder("override")?;
    guest.machine().snapshot(&folder, true)?;
    let pages = lost_pages(&mut guest)?;
    ensure!(pages.len() == 1, "the override is told {pages:?}");
    let count: u64 = pages[0].parse().context("a number of pages")?;
    ensure!(count > 0, "no page is lost");
    context.measure("pages_lost_by_override", count);
    guest.resume()?;
    guest.is_well()?;
    guest.machine().shutdown(SHORT)
}

fn mount_read_only(guest: &mut Guest) -> Result<()> {
    guest.done(Step::Mount {
        fs: Filesystem::Ext4,
        device: "#0".to_owned(),
        path: MOUNT.to_owned(),
        dax: true,
        options: "ro".to_owned(),
    })
}

/// What the present process has told of lost pages.
fn lost_pages(guest: &mut Guest) -> Result<Vec<String>> {
    let log = guest.machine().events().context("no event log")?.to_owned();
    let all = events::read(&log)?;
    let lost = events::of_device(&all, "data", LOST);
    Ok(lost
        .map(|event| event.property("pages").unwrap_or_default().to_owned())
        .collect())
}
