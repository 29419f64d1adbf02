// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Brings KVM to say which page a vCPU waits for in vain.
//!
//! With interrupts enabled KVM puts a vCPU to sleep for a page, again and again; without, it
//! can't, and KVM_RUN ends with the page's address. So a vCPU that stands still at one
//! instruction gets to try it once with interrupts disabled. If the instruction succeeds
//! after all, single-stepping ends the trial right behind it: the guest never knows.

use std::io;

use kvm_bindings::{
    KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_MP_STATE_RUNNABLE, kvm_guest_debug,
};
use kvm_ioctls::VcpuFd;

const RFLAGS_TF: u64 = 1 << 8;
const RFLAGS_IF: u64 = 1 << 9;

/// What is remembered of a vCPU. Belongs to its thread.
#[derive(Default)]
pub struct Trial {
    /// Instruction and stack pointer at the last look.
    last: Option<(u64, u64)>,
    under_way: bool,
}

impl Trial {
    /// Has a look at a vCPU that takes faults in vain: if it stands where it stood at the
    /// look before, a trial begins.
    ///
    /// # Errors
    /// KVM refused a call.
    pub fn look(&mut self, fd: &VcpuFd) -> io::Result<()> {
        // A halted vCPU waits for an interrupt.
        if fd.get_mp_state().map_err(error)?.mp_state != KVM_MP_STATE_RUNNABLE {
            return Ok(());
        }
        let mut regs = fd.get_regs().map_err(error)?;
        let here = (regs.rip, regs.rsp);
        if self.last.replace(here) != Some(here) {
            return Ok(());
        }
        // Without IF, and behind an instruction that holds interrupts off, KVM says it by
        // itself. A guest that single-steps itself is left alone.
        let shadow = fd.get_vcpu_events().map_err(error)?.interrupt.shadow;
        if shadow != 0 || regs.rflags & (RFLAGS_IF | RFLAGS_TF) != RFLAGS_IF {
            return Ok(());
        }
        log::info!(
            "a vCPU stands still at {:#x}: asking KVM for the page",
            regs.rip
        );
        regs.rflags &= !RFLAGS_IF;
        fd.set_regs(&regs).map_err(error)?;
        self.under_way = true;
        single_step(fd, true)
    }

    /// Ends a trial whose instruction succeeded or was not tried.
    ///
    /// # Errors
    /// KVM refused a call.
    pub fn end(&mut self, fd: &VcpuFd) -> io::Result<()> {
        if !self.under_way {
            return Ok(());
        }
        self.under_way = false;
        single_step(fd, false)?;
        let mut regs = fd.get_regs().map_err(error)?;
        regs.rflags |= RFLAGS_IF;
        fd.set_regs(&regs).map_err(error)
    }
}

/// The guest physical addresses that the vCPU's registers point to: one of them, or one
/// close by, is what its instruction reads or writes. KVM does not say which.
pub fn addresses(fd: &VcpuFd) -> Vec<u64> {
    let Ok(r) = fd.get_regs() else {
        return Vec::new();
    };
    let registers = [
        r.rdi, r.rsi, r.rax, r.rbx, r.rcx, r.rdx, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12,
        r.r13, r.r14, r.r15, r.rip,
    ];
    let physical = registers.into_iter().filter_map(|address| {
        let found = fd.translate_gva(address).ok()?;
        (found.valid != 0).then_some(found.physical_address)
    });
    physical.collect()
}

fn single_step(fd: &VcpuFd, on: bool) -> io::Result<()> {
    let control = if on {
        KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP
    } else {
        0
    };
    let debug = kvm_guest_debug {
        control,
        ..kvm_guest_debug::default()
    };
    fd.set_guest_debug(&debug).map_err(error)
}

fn error(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}
