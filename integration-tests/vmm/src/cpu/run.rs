// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One turn of a vCPU: enter the guest, serve what it asks, say whether it can go on.

use kvm_ioctls::{VcpuExit, VcpuFd};

use super::still::{Trial, addresses};
use crate::machine::GuestExit;

/// What a vCPU reaches besides memory. Called on vCPU threads, several at once; a call
/// returns at once, whatever the host's storage does.
pub trait Bus: Send + Sync {
    /// `in` from a port; bytes that nobody answers stay 0xff.
    fn port_in(&self, port: u16, data: &mut [u8]);
    /// `out` to a port.
    fn port_out(&self, port: u16, data: &[u8]) -> Option<GuestExit>;
    /// A read of a device register; bytes that nobody answers stay 0xff. False: there should
    /// be memory, but KVM could not reach it while it emulated an instruction.
    fn mmio_read(&self, address: u64, data: &mut [u8]) -> bool;
    /// A write to a device register. False: as above.
    fn mmio_write(&self, address: u64, data: &[u8]) -> bool;
    /// Says what lies behind a guest address that KVM could not reach.
    fn explain_fault(&self, address: u64) -> String;
    /// The same if KVM did not tell which: it may be one of these.
    fn explain_fault_near(&self, addresses: &[u64]) -> String;
}

/// Why a vCPU came back to its thread for good or for a while.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// Somebody interrupted it; no access is half done.
    Interrupted,
    /// The guest ended or cannot go on.
    Exit(GuestExit),
}

/// Runs the guest until it is interrupted or ends.
pub fn run(fd: &mut VcpuFd, id: u8, bus: &dyn Bus, trial: &mut Trial) -> Stop {
    loop {
        match fd.run() {
            Ok(VcpuExit::IoIn(port, data)) => {
                data.fill(0xff);
                bus.port_in(port, data);
            }
            Ok(VcpuExit::IoOut(port, data)) => {
                if let Some(exit) = bus.port_out(port, data) {
                    return Stop::Exit(exit);
                }
            }
            Ok(VcpuExit::MmioRead(address, data)) => {
                data.fill(0xff);
                if !bus.mmio_read(address, data) {
                    return failed(id, &bus.explain_fault(address));
                }
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                if !bus.mmio_write(address, data) {
                    return failed(id, &bus.explain_fault(address));
                }
            }
            // A triple fault is how a PC resets as a last resort.
            Ok(VcpuExit::Shutdown) => return Stop::Exit(GuestExit::Reset),
            Ok(VcpuExit::MemoryFault { gpa, .. }) => {
                return failed(id, &bus.explain_fault(gpa));
            }
            // Nobody else steps: the instruction on trial has succeeded.
            Ok(VcpuExit::Debug(_)) => {
                if let Err(e) = trial.end(fd) {
                    return failed(id, &format!("cannot stop single-stepping: {e}"));
                }
            }
            Ok(VcpuExit::InternalError) => {
                // SAFETY: this exit reason says that `internal` is the valid member.
                let suberror = unsafe { fd.get_kvm_run().__bindgen_anon_1.internal.suberror };
                return failed(id, &format!("KVM internal error {suberror}"));
            }
            Ok(exit) => return failed(id, &format!("unexpected exit {exit:?}")),
            Err(e) => match e.errno() {
                libc::EINTR => return Stop::Interrupted,
                libc::EAGAIN => {}
                libc::EFAULT => return failed(id, &bus.explain_fault_near(&addresses(fd))),
                _ => return failed(id, &format!("KVM_RUN failed: {e}")),
            },
        }
    }
}

fn failed(id: u8, what: &str) -> Stop {
    Stop::Exit(GuestExit::Failed(format!("vCPU {id}: {what}")))
}
