// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The machine: memory, vCPUs and devices put together ([`build`]), and what the control
//! loop asks of it ([`crate::machine::Machine`]).
//!
//! Nothing here blocks on a device: see [`pause`].

mod build;
mod error;
mod exit;
mod factory;
mod pause;
mod state;
mod watch;

use std::sync::Arc;

use kvm_bindings::kvm_clock_data;
use kvm_ioctls::{Kvm, VmFd};
use vm_memory::GuestMemoryMmap;

use self::pause::{Phase, Progress};
use self::watch::Watch;
use crate::cpu::VcpuThreads;
use crate::devices::{Console, DeviceBus};

pub use self::error::VmError;
pub use self::exit::ExitNote;
pub use self::factory::KvmFactory;
pub use self::state::VmState;

/// A virtual machine. Dropping it never waits for storage: the vCPUs end first (one that
/// hangs in the kernel is left behind), then the devices.
pub struct Vm {
    // Before the vCPUs, whose counters it reads.
    _watch: Option<Watch>,
    vcpus: VcpuThreads,
    // Before the bus, which has the other end: the console's last output.
    _console: Console,
    bus: Arc<DeviceBus>,
    exit: Arc<ExitNote>,
    progress: Progress,
    phase: Phase,
    /// Why the sync that is under way has failed already.
    sync_failure: Option<VmError>,
    /// KVM's clock as it stood at the pause: the guest's time does not go on meanwhile.
    clock: kvm_clock_data,
    ram: GuestMemoryMmap,
    vm: Arc<VmFd>,
    kvm: Kvm,
}
