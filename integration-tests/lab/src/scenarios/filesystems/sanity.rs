// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A filesystem's whole life on the device.

use std::time::Duration;

use anyhow::{Result, ensure};
use guest_agent::wire::{Filesystem, LoadKind};

use crate::inside::context::Context;
use crate::inside::disk::{HostFs, ReadOnly};
use crate::inside::machine::Pmem;
use crate::scenarios::support::{DATA_BYTES, acked, no_errors, verified};

const DIR: &str = "/mnt/data/files";
const MOUNT: &str = "/mnt/data";

/// XFS is not made on less than 300 MiB.
const XFS_BYTES: u64 = 320 << 20;

/// `sanity-ext4`.
pub fn ext4(context: &mut Context) -> Result<()> {
    run(context, Filesystem::Ext4, false)
}

/// `sanity-ext4-dax`.
pub fn ext4_dax(context: &mut Context) -> Result<()> {
    run(context, Filesystem::Ext4, true)
}

/// `sanity-xfs`.
pub fn xfs(context: &mut Context) -> Result<()> {
    run(context, Filesystem::Xfs, false)
}

fn run(context: &mut Context, fs: Filesystem, dax: bool) -> Result<()> {
    let bytes = if fs == Filesystem::Xfs {
        XFS_BYTES
    } else {
        DATA_BYTES
    };
    let backing = context.backing("data", HostFs::Ext4, bytes)?;
    let data = backing.reserved_file("pmem.img", bytes)?;
    let ack = context.ack()?;
    let ack_file = ack.file.clone();
    let mut guest = context.boot(vec![Pmem::new("data", &data), ack])?;
    guest.devices(2)?;

    context.step("make and mount the filesystem");
    let mkfs_rc = guest.mkfs(fs, "#0")?;
    context.measure("mkfs_rc", mkfs_rc);
    ensure!(mkfs_rc == 0, "mkfs ended with {mkfs_rc}");
    guest.mount(fs, "#0", MOUNT, dax)?;
    context.measure("mount_rc", 0);

    context.step("write and sync files");
    let dir = DIR.to_owned();
    let kind = if dax {
        LoadKind::Mmap { dir }
    } else {
        LoadKind::File { dir, append: true }
    };
    let mut spec = acked(context, kind, 2, "#1", 0);
    spec.syncs_per_thread = 20;
    guest.load_start("files", spec)?;
    let report = guest.load_wait("files", Duration::from_secs(60))?;
    no_errors(&report)?;
    context.measure("fsyncs", report.fsyncs);

    context.step("unmount and check");
    guest.umount(MOUNT)?;
    context.measure("umount_rc", 0);
    let fsck_rc = guest.fsck(fs, "#0")?;
    context.measure("fsck_rc", fsck_rc);
    ensure!(fsck_rc == 0, "fsck ended with {fsck_rc}");
    guest.power_off()?;

    context.step("read the files from the host side");
    let files = ReadOnly::mount(&data, false)?;
    let found = verified(&files.path().join("files"), &ack_file, 0)?;
    ensure!(
        found.exact == found.acked,
        "an unmounted filesystem holds other blocks: {found:?}"
    );
    ensure!(found.fsyncs == report.fsyncs, "acks are missing: {found:?}");
    context.measure("acked_blocks_verified", found.exact);
    Ok(())
}
