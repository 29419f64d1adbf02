// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the outside asks of the guest.

use serde::{Deserialize, Serialize};

use crate::wire::LoadSpec;

/// One order. The guest runs an id once; the same id again is answered from memory.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Order {
    /// Chosen by the sender, never reused for another order.
    pub id: u64,
    /// What to do.
    pub step: Step,
}

/// The filesystems that the guest knows how to make and check.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filesystem {
    /// ext4, always with 4 KiB blocks: with smaller ones it refuses DAX.
    Ext4,
    /// XFS.
    Xfs,
}

impl Filesystem {
    /// The name mount(2) takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

/// Which virtio-pmem device a hostile program drives.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostileTarget {
    /// The n-th virtio-pmem device in the order of the VMM's command line, on any transport.
    Index(usize),
    /// virtio-mmio registers at this guest physical address.
    Mmio(u64),
    /// A PCI function by its name in sysfs, as in `0000:00:03.0`.
    Pci(String),
}

/// What to do.
///
/// A `device` is a path (`/dev/pmem0`), `#N` for the N-th pmem device in the order of the
/// VMM's command line (from 0), or `@0x140000000` for the one whose region starts at that
/// guest physical address. pmemN in the guest follows no order: namespaces are probed at the
/// same time.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Step {
    /// What runs, and that the agent lives. Always answered at once.
    Status,
    /// Stops the tool or load that an earlier order started. Always answered at once; the
    /// stopped order gives its own answer.
    Stop {
        /// The order to stop; all of them if it is missing.
        #[serde(default)]
        order: Option<u64>,
    },
    /// Runs a program and waits for its end. Answer: [`crate::wire::Outcome::Tool`], whatever
    /// its exit code is.
    Tool {
        /// The program and its arguments; `PATH` is searched.
        argv: Vec<String>,
        /// Killed with all its children after this time; 0 means never.
        #[serde(default)]
        timeout_ms: u64,
        /// What it reads on standard input.
        #[serde(default)]
        stdin: String,
    },
    /// Makes a filesystem. Answer: Tool.
    Mkfs {
        /// Which one.
        fs: Filesystem,
        /// Where.
        device: String,
        /// Further options for mkfs.
        #[serde(default)]
        options: Vec<String>,
    },
    /// Mounts. Answer: Done, or a failure with the errno.
    Mount {
        /// The filesystem on the device.
        fs: Filesystem,
        /// The device.
        device: String,
        /// Where; made if it is missing.
        path: String,
        /// With `dax=always` (DAX that is refused is a failure, the kernel would only warn).
        #[serde(default)]
        dax: bool,
        /// Further mount options, separated by commas.
        #[serde(default)]
        options: String,
    },
    /// Unmounts. Answer: Done, or a failure with the errno.
    Umount {
        /// The mount point.
        path: String,
    },
    /// Checks a filesystem, changing nothing (`e2fsck -fn`, `xfs_repair -n`). Answer: Tool; 0
    /// means clean.
    Fsck {
        /// Which filesystem.
        fs: Filesystem,
        /// Where.
        device: String,
    },
    /// Lists the pmem devices in the order of the VMM's command line. Answer: Devices.
    Devices,
    /// Waits until there are at least `count` pmem block devices. Answer: Devices.
    WaitDevices {
        /// How many.
        count: usize,
        /// Fails after this time.
        timeout_ms: u64,
    },
    /// Starts a load. Answer: Done once all its threads are ready and the ack area is laid out.
    LoadStart {
        /// A name for the later orders.
        name: String,
        /// What it does.
        spec: LoadSpec,
    },
    /// The counters of a load as they are now. Answer: Load.
    LoadStatus {
        /// Its name.
        name: String,
    },
    /// Waits for a load's own end. Answer: Load.
    LoadWait {
        /// Its name.
        name: String,
        /// Fails after this time; the load goes on.
        timeout_ms: u64,
    },
    /// Lets each thread of a load finish its step and end. Answer: Load.
    LoadStop {
        /// Its name.
        name: String,
        /// Fails after this time; the threads still end when they can.
        timeout_ms: u64,
    },
    /// Holds data against an ack area inside the guest. Answer: Verify.
    Verify {
        /// A device or a directory, as the load had it.
        data: String,
        /// The ack device.
        ack: String,
        /// Where the ack area starts on it, in bytes.
        #[serde(default)]
        ack_offset: u64,
    },
    /// Reads a file, sysfs attribute or link target. Answer: Text.
    Read {
        /// Its path.
        path: String,
    },
    /// Writes text into an existing file, sysfs attribute or device in one write(2). Answer: Done.
    Write {
        /// Its path.
        path: String,
        /// What to write.
        text: String,
    },
    /// The kernel's log since boot. Answer: Text.
    Dmesg,
    /// The block layer's counters of a device. Answer: Block.
    BlockCounters {
        /// The device.
        device: String,
    },
    /// sync(2). Answer: Done.
    Sync,
    /// sync(2), then drops page cache, dentries and inodes. Answer: Done.
    DropCaches,
    /// Loads a module file. Answer: Done.
    ModuleLoad {
        /// An uncompressed module.
        path: String,
        /// Its parameters.
        #[serde(default)]
        parameters: String,
    },
    /// Unloads a module. Answer: Done.
    ModuleUnload {
        /// Its name.
        name: String,
    },
    /// Drives a virtio-pmem device's ring without a kernel driver. Answer: Hostile.
    Hostile {
        /// A case of [`crate::wire`]'s list, by name, as `guest-agent hostile --list` prints it.
        case: String,
        /// Which device. The kernel driver must not be bound to it.
        target: HostileTarget,
        /// How long the device may take to answer.
        #[serde(default = "default_bound_ms")]
        bound_ms: u64,
        /// Leave the device as the case made it until somebody writes into
        /// [`crate::hostile::HOLD`], then go on to the reset.
        #[serde(default)]
        hold: bool,
    },
    /// Syncs, answers Done, powers off.
    Poweroff,
    /// Syncs, answers Done, reboots.
    Reboot,
}

fn default_bound_ms() -> u64 {
    5000
}
