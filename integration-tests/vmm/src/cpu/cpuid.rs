// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the guest reads with CPUID: all that KVM supports here, less what a snapshot
//! could not carry over, and with our own topology (one socket, one thread per core).

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm};

use crate::vm::VmError;

const LEAF_FEATURES: u32 = 1;
const LEAF_CACHE: u32 = 4;
const LEAF_TOPOLOGY: u32 = 0xb;
const LEAF_TOPOLOGY_V2: u32 = 0x1f;
const LEAF_KVM_FEATURES: u32 = 0x4000_0001;
const LEAF_EXT_FEATURES: u32 = 0x8000_0001;
const LEAF_ADDRESS_SIZES: u32 = 0x8000_0008;

const ECX1_MONITOR: u32 = 1 << 3;
const ECX1_VMX: u32 = 1 << 5;
const ECX1_TSC_DEADLINE: u32 = 1 << 24;
const ECX1_HYPERVISOR: u32 = 1 << 31;
const EDX1_HTT: u32 = 1 << 28;
const ECX_EXT_CMP_LEGACY: u32 = 1 << 1;
const ECX_EXT_SVM: u32 = 1 << 2;
const ECX_EXT_TOPOEXT: u32 = 1 << 22;

/// KVM_FEATURE_ASYNC_PF, _ASYNC_PF_VMEXIT and _ASYNC_PF_INT
/// (Documentation/virt/kvm/x86/cpuid.rst).
const KVM_ASYNC_PF: u32 = 1 << 4 | 1 << 10 | 1 << 14;

/// The CPUID leaves of vCPU `id` of `count`.
///
/// # Errors
/// KVM refused to say what it supports.
pub fn guest_cpuid(kvm: &Kvm, id: u8, count: u8) -> Result<CpuId, VmError> {
    let supported = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(|e| VmError::Kvm("KVM_GET_SUPPORTED_CPUID", e))?;
    let tsc_deadline = kvm.check_extension(Cap::TscDeadlineTimer);
    let entries = adapt(supported.as_slice(), id, count, tsc_deadline);
    CpuId::from_entries(&entries).map_err(|_| VmError::Missing("room for the CPUID table"))
}

/// The first guest physical address beyond what the vCPUs can name.
pub fn address_limit(cpuid: &CpuId) -> u64 {
    let bits = cpuid
        .as_slice()
        .iter()
        .find(|entry| entry.function == LEAF_ADDRESS_SIZES)
        .map_or(36, |entry| entry.eax & 0xff);
    1u64.checked_shl(bits).unwrap_or(u64::MAX)
}

fn adapt(
    supported: &[kvm_cpuid_entry2],
    id: u8,
    count: u8,
    tsc_deadline: bool,
) -> Vec<kvm_cpuid_entry2> {
    let apic_id = u32::from(id);
    let cores = u32::from(count);
    let core_bits = u32::from(count).next_power_of_two().trailing_zeros();
    let mut entries: Vec<_> = supported
        .iter()
        .filter(|entry| !matches!(entry.function, LEAF_TOPOLOGY | LEAF_TOPOLOGY_V2))
        .copied()
        .collect();

    for entry in &mut entries {
        match entry.function {
            LEAF_FEATURES => {
                entry.ebx = (entry.ebx & 0xffff) | (cores << 16) | (apic_id << 24);
                // Nested guests would have state of their own to save.
                entry.ecx &= !(ECX1_MONITOR | ECX1_VMX | ECX1_TSC_DEADLINE);
                entry.ecx |= ECX1_HYPERVISOR;
                if tsc_deadline {
                    entry.ecx |= ECX1_TSC_DEADLINE;
                }
                if count > 1 {
                    entry.edx |= EDX1_HTT;
                }
            }
            LEAF_CACHE if entry.eax & 0x1f != 0 => {
                entry.eax = (entry.eax & 0x03ff_ffff) | ((cores - 1) << 26);
            }
            // A page that KVM still fetches when a snapshot is taken would be announced
            // to nobody.
            LEAF_KVM_FEATURES => entry.eax &= !KVM_ASYNC_PF,
            LEAF_EXT_FEATURES => {
                entry.ecx &= !(ECX_EXT_SVM | ECX_EXT_TOPOEXT | ECX_EXT_CMP_LEGACY);
                if count > 1 {
                    entry.ecx |= ECX_EXT_CMP_LEGACY;
                }
            }
            LEAF_ADDRESS_SIZES => entry.ecx = (cores - 1) | (core_bits << 12),
            _ => {}
        }
    }

    let max_leaf = entries
        .iter()
        .find(|entry| entry.function == 0)
        .map_or(0, |entry| entry.eax);
    if max_leaf >= LEAF_TOPOLOGY {
        // Level 0: threads of a core (one). Level 1: cores of the socket.
        for (level, shift, number, kind) in [(0, 0, 1, 1), (1, core_bits, cores, 2)] {
            entries.push(kvm_cpuid_entry2 {
                function: LEAF_TOPOLOGY,
                index: level,
                flags: kvm_bindings::KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
                eax: shift,
                ebx: number,
                ecx: level | (kind << 8),
                edx: apic_id,
                ..Default::default()
            });
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32, eax: u32, ecx: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function,
            eax,
            ecx,
            ebx: 0x00ff_0800,
            ..Default::default()
        }
    }

    fn find(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
        *entries
            .iter()
            .find(|e| e.function == function && e.index == index)
            .unwrap()
    }

    fn supported() -> Vec<kvm_cpuid_entry2> {
        vec![
            leaf(0, 0xd, 0),
            leaf(1, 0, ECX1_VMX | ECX1_MONITOR),
            leaf(0x4000_0001, u32::MAX, 0),
            leaf(0x8000_0001, 0, ECX_EXT_SVM | ECX_EXT_TOPOEXT),
            leaf(0x8000_0008, 40, 0),
        ]
    }

    #[test]
    fn each_vcpu_has_its_own_apic_id() {
        for id in 0..4 {
            let entries = adapt(&supported(), id, 4, false);
            assert_eq!(find(&entries, 1, 0).ebx, 0x0004_0800 | u32::from(id) << 24);
            assert_eq!(find(&entries, 0xb, 0).edx, u32::from(id));
            assert_eq!(find(&entries, 0xb, 1).ebx, 4);
            assert_eq!(find(&entries, 0xb, 1).eax, 2);
        }
    }

    #[test]
    fn what_a_snapshot_cannot_carry_is_hidden() {
        let entries = adapt(&supported(), 0, 1, false);
        assert_eq!(find(&entries, 1, 0).ecx, ECX1_HYPERVISOR);
        assert_eq!(find(&entries, 0x8000_0001, 0).ecx, 0);
        assert_eq!(find(&entries, 0x4000_0001, 0).eax, !KVM_ASYNC_PF);
    }

    #[test]
    fn tsc_deadline_follows_the_host() {
        let with = adapt(&supported(), 0, 1, true);
        assert_ne!(find(&with, 1, 0).ecx & ECX1_TSC_DEADLINE, 0);
    }

    #[test]
    fn the_address_limit_is_the_cpus() {
        let cpuid = CpuId::from_entries(&supported()).unwrap();
        assert_eq!(address_limit(&cpuid), 1 << 40);
    }
}
