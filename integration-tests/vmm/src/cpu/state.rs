// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a snapshot keeps of a vCPU, and in which order it is read and written.
//!
//! KVM's calls depend on each other: reading the run state settles pending interrupts,
//! so it comes first; the local APIC comes after the special registers (they hold its
//! base) and before the MSRs (they hold the deadline of its timer).

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_cpuid_entry2, kvm_debugregs, kvm_lapic_state,
    kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{Kvm, VcpuFd};
use serde::{Deserialize, Serialize};

use crate::vm::VmError;

/// One vCPU.
#[derive(Deserialize, Serialize)]
pub struct VcpuState {
    id: u8,
    cpuid: Vec<kvm_cpuid_entry2>,
    tsc_khz: u32,
    mp_state: kvm_mp_state,
    regs: kvm_regs,
    sregs: kvm_sregs,
    xsave: kvm_xsave,
    xcrs: kvm_xcrs,
    debug_regs: kvm_debugregs,
    lapic: kvm_lapic_state,
    msrs: Vec<kvm_msr_entry>,
    events: kvm_vcpu_events,
}

/// Reads a parked vCPU.
///
/// # Errors
/// KVM refused a call.
pub fn save(kvm: &Kvm, fd: &VcpuFd, id: u8) -> Result<VcpuState, VmError> {
    let error = |call| move |e| VmError::Vcpu(id, call, e);
    let mp_state = fd.get_mp_state().map_err(error("KVM_GET_MP_STATE"))?;
    let regs = fd.get_regs().map_err(error("KVM_GET_REGS"))?;
    let sregs = fd.get_sregs().map_err(error("KVM_GET_SREGS"))?;
    let xsave = fd.get_xsave().map_err(error("KVM_GET_XSAVE"))?;
    let xcrs = fd.get_xcrs().map_err(error("KVM_GET_XCRS"))?;
    let debug_regs = fd.get_debug_regs().map_err(error("KVM_GET_DEBUGREGS"))?;
    let lapic = fd.get_lapic().map_err(error("KVM_GET_LAPIC"))?;
    let msrs = read_msrs(kvm, fd, id)?;
    let events = fd.get_vcpu_events().map_err(error("KVM_GET_VCPU_EVENTS"))?;
    let cpuid = fd
        .get_cpuid2(KVM_MAX_CPUID_ENTRIES)
        .map_err(error("KVM_GET_CPUID2"))?;
    let tsc_khz = fd.get_tsc_khz().map_err(error("KVM_GET_TSC_KHZ"))?;
    Ok(VcpuState {
        id,
        cpuid: cpuid.as_slice().to_vec(),
        tsc_khz,
        mp_state,
        regs,
        sregs,
        xsave,
        xcrs,
        debug_regs,
        lapic,
        msrs,
        events,
    })
}

/// Writes a vCPU that has never run.
///
/// # Errors
/// The state is another vCPU's, this host's TSC cannot take the saved frequency, or KVM
/// refused a call.
pub fn restore(fd: &VcpuFd, id: u8, state: &VcpuState) -> Result<(), VmError> {
    let error = |call| move |e| VmError::Vcpu(id, call, e);
    if state.id != id {
        return Err(VmError::State(format!(
            "vCPU {} stands where vCPU {id} should",
            state.id
        )));
    }
    let cpuid = CpuId::from_entries(&state.cpuid)
        .map_err(|_| VmError::State(format!("vCPU {id} has too many CPUID entries")))?;
    fd.set_cpuid2(&cpuid).map_err(error("KVM_SET_CPUID2"))?;
    let tsc_khz = fd.get_tsc_khz().map_err(error("KVM_GET_TSC_KHZ"))?;
    if tsc_khz != state.tsc_khz {
        fd.set_tsc_khz(state.tsc_khz).map_err(|_| {
            VmError::State(format!(
                "its TSC runs at {} kHz, this host's at {tsc_khz} kHz and cannot be scaled",
                state.tsc_khz
            ))
        })?;
    }
    fd.set_mp_state(state.mp_state)
        .map_err(error("KVM_SET_MP_STATE"))?;
    fd.set_regs(&state.regs).map_err(error("KVM_SET_REGS"))?;
    fd.set_sregs(&state.sregs).map_err(error("KVM_SET_SREGS"))?;
    // SAFETY: KVM reads more than this structure only for features that a process has
    // to ask for first (arch_prctl); we ask for none.
    unsafe { fd.set_xsave(&state.xsave) }.map_err(error("KVM_SET_XSAVE"))?;
    // A host without XSAVE has no such register, and refuses an empty list too.
    if state.xcrs.nr_xcrs != 0 {
        fd.set_xcrs(&state.xcrs).map_err(error("KVM_SET_XCRS"))?;
    }
    fd.set_debug_regs(&state.debug_regs)
        .map_err(error("KVM_SET_DEBUGREGS"))?;
    fd.set_lapic(&state.lapic).map_err(error("KVM_SET_LAPIC"))?;
    write_msrs(fd, id, &state.msrs)?;
    fd.set_vcpu_events(&state.events)
        .map_err(error("KVM_SET_VCPU_EVENTS"))
}

/// Tells the guest that it was paused, so that its watchdog does not take the pause for
/// a lock-up. To be called before it runs again.
///
/// # Errors
/// KVM refused.
pub fn announce_pause(fd: &VcpuFd, id: u8) -> Result<(), VmError> {
    match fd.kvmclock_ctrl() {
        // A guest that has not set up its clock has nothing to be told.
        Err(e) if e.errno() != libc::EINVAL => Err(VmError::Vcpu(id, "KVM_KVMCLOCK_CTRL", e)),
        _ => Ok(()),
    }
}

/// Every MSR that KVM lists and this vCPU has.
fn read_msrs(kvm: &Kvm, fd: &VcpuFd, id: u8) -> Result<Vec<kvm_msr_entry>, VmError> {
    let list = kvm
        .get_msr_index_list()
        .map_err(|e| VmError::Kvm("KVM_GET_MSR_INDEX_LIST", e))?;
    let mut wanted: Vec<_> = list
        .as_slice()
        .iter()
        .map(|&index| kvm_msr_entry {
            index,
            ..Default::default()
        })
        .collect();
    let mut read = Vec::with_capacity(wanted.len());
    // KVM stops at the first MSR this vCPU does not have: leave that one out, go on.
    while !wanted.is_empty() {
        let chunk = wanted.len().min(kvm_bindings::KVM_MAX_MSR_ENTRIES);
        let mut msrs = Msrs::from_entries(&wanted[..chunk])
            .map_err(|_| VmError::Missing("room for the MSRs"))?;
        let done = fd
            .get_msrs(&mut msrs)
            .map_err(|e| VmError::Vcpu(id, "KVM_GET_MSRS", e))?
            .min(chunk);
        read.extend_from_slice(&msrs.as_slice()[..done]);
        let used = if done < chunk { done + 1 } else { done };
        wanted.drain(..used);
    }
    Ok(read)
}

/// Writes the MSRs; one that KVM does not let us write must hold the saved value already.
fn write_msrs(fd: &VcpuFd, id: u8, msrs: &[kvm_msr_entry]) -> Result<(), VmError> {
    let mut rest = msrs;
    while !rest.is_empty() {
        let chunk = rest.len().min(kvm_bindings::KVM_MAX_MSR_ENTRIES);
        let list = Msrs::from_entries(&rest[..chunk])
            .map_err(|_| VmError::State(format!("vCPU {id} has too many MSRs")))?;
        let done = fd
            .set_msrs(&list)
            .map_err(|e| VmError::Vcpu(id, "KVM_SET_MSRS", e))?
            .min(chunk);
        if done < chunk {
            let refused = rest[done];
            let mut now = Msrs::from_entries(&[kvm_msr_entry {
                index: refused.index,
                ..Default::default()
            }])
            .map_err(|_| VmError::Missing("room for an MSR"))?;
            let same = fd.get_msrs(&mut now).is_ok_and(|n| n == 1)
                && now.as_slice()[0].data == refused.data;
            if !same {
                return Err(VmError::State(format!(
                    "vCPU {id}: this host's KVM refuses MSR {:#x} = {:#x}",
                    refused.index, refused.data
                )));
            }
            rest = &rest[done + 1..];
        } else {
            rest = &rest[done..];
        }
    }
    Ok(())
}
