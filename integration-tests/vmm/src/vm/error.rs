// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What can go wrong with a machine.

use std::io;
use std::path::PathBuf;

use linux_loader::cmdline;
use linux_loader::configurator;
use linux_loader::loader;
use thiserror::Error;
use vm_memory::GuestMemoryError;
use vm_memory::mmap::FromRangesError;

/// Why a machine could not be built, run, paused, saved or restored.
#[derive(Debug, Error)]
pub enum VmError {
    /// A call to KVM failed; names the ioctl.
    #[error("{0} failed")]
    Kvm(&'static str, #[source] kvm_ioctls::Error),
    /// A call to KVM failed for one vCPU; names the ioctl.
    #[error("vCPU {0}: {1} failed")]
    Vcpu(u8, &'static str, #[source] kvm_ioctls::Error),
    /// The host's KVM lacks something.
    #[error("this host's KVM has no {0}")]
    Missing(&'static str),
    /// Another system call failed; says for what.
    #[error("{0}")]
    Host(&'static str, #[source] io::Error),
    /// Guest RAM could not be mapped.
    #[error("cannot map guest memory")]
    Map(#[from] FromRangesError),
    /// Boot data do not fit into guest RAM.
    #[error("cannot write {0} into guest memory")]
    Memory(&'static str, #[source] GuestMemoryError),
    /// `--kernel` or `--initramfs` names a file that cannot be read.
    #[error("{flag} {}: cannot read it", path.display())]
    PayloadFile {
        /// The option.
        flag: &'static str,
        /// Its value.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `--kernel` names something that is not a kernel we can start.
    #[error("--kernel {}: not a bzImage for x86_64", path.display())]
    Kernel {
        /// The option's value.
        path: PathBuf,
        /// Why.
        source: loader::Error,
    },
    /// The kernel has no 64-bit entry point.
    #[error("--kernel {}: it has no 64-bit entry point; a 64-bit kernel is needed", .0.display())]
    KernelNot64(PathBuf),
    /// The kernel or the initramfs is larger than the guest's RAM allows.
    #[error("{flag} {}: needs {needed} bytes of memory below {limit:#x}; --memory size= is too small",
        path.display())]
    PayloadTooLarge {
        /// The option.
        flag: &'static str,
        /// Its value.
        path: PathBuf,
        /// Bytes.
        needed: u64,
        /// The first address it may not reach.
        limit: u64,
    },
    /// `--cmdline` is wrong.
    #[error("--cmdline: {limit} bytes of ASCII at most")]
    Cmdline {
        /// What the kernel takes.
        limit: usize,
        /// Why.
        source: cmdline::Error,
    },
    /// The command line could not be written.
    #[error("cannot write the command line into guest memory")]
    CmdlineLoad(#[source] loader::Error),
    /// `--serial` names a file or socket that cannot be opened.
    #[error("--serial {option}={}: cannot be opened", path.display())]
    Serial {
        /// The key.
        option: &'static str,
        /// Its value.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The boot parameters could not be written.
    #[error("cannot write the boot parameters")]
    BootParams(#[from] configurator::Error),
    /// The ACPI tables are larger than their place.
    #[error("the ACPI tables need {0} bytes, there is room for {1}")]
    AcpiTooLarge(usize, u64),
    /// More pmem devices than interrupt lines.
    #[error("--pmem: {0} devices given, {1} at most")]
    TooManyDevices(usize, usize),
    /// A pmem device does not fit below the end of the CPU's physical addresses.
    #[error(
        "--pmem id={id}: {size:#x} bytes do not fit below {limit:#x}, where this CPU's addresses end"
    )]
    PmemTooLarge {
        /// The device.
        id: String,
        /// Bytes.
        size: u64,
        /// The first address there is not.
        limit: u64,
    },
    /// A pmem device's file cannot be used.
    #[error("--pmem id={id},file={}: {what}", file.display())]
    PmemFile {
        /// The device.
        id: String,
        /// The file.
        file: PathBuf,
        /// What failed, or what would be right.
        what: String,
        /// Why, if a system call said so.
        source: Option<io::Error>,
    },
    /// A pmem device did not do what was asked.
    #[error("pmem device {id}: {what}")]
    Pmem {
        /// The device.
        id: String,
        /// What.
        what: String,
    },
    /// vCPUs did not park before the deadline.
    #[error("vCPUs {0:?} did not stop in time: drain timed out")]
    ParkTimeout(Vec<u8>),
    /// A saved state does not fit this machine or this host.
    #[error("the snapshot does not fit: {0}")]
    State(String),
    /// What was asked needs another run state.
    #[error("the VM is {is}, it has to be {needed}")]
    RunState {
        /// What the machine is doing.
        is: &'static str,
        /// What it should have been doing.
        needed: &'static str,
    },
}
