// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! How often a vCPU met a page that was not mapped, and how often that got it on: KVM's
//! statistics (Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;

use kvm_ioctls::VcpuFd;

/// `_IO(KVMIO, 0xce)`.
const KVM_GET_STATS_FD: libc::c_ulong = 0xaece;
/// `struct kvm_stats_header`, six 32-bit numbers.
const HEADER_LEN: usize = 24;
/// `struct kvm_stats_desc` without the name.
const DESC_LEN: usize = 16;
/// More than KVM has; what it says is not trusted with our memory.
const TABLE_MAX: usize = 1 << 20;

const TAKEN: &str = "pf_taken";
/// Every way in which KVM settles a fault. What is missing from the sum was tried again.
const SETTLED: [&str; 4] = ["pf_fixed", "pf_emulate", "pf_spurious", "pf_fast"];

/// A vCPU's counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Faults that KVM took.
    pub taken: u64,
    /// Those after which the guest could go on.
    pub settled: u64,
}

/// Where a vCPU's counters are read.
pub struct FaultCounters {
    file: File,
    taken: u64,
    settled: Vec<u64>,
}

impl FaultCounters {
    /// The counters of a vCPU.
    ///
    /// # Errors
    /// This KVM has no statistics, or not these.
    pub fn open(fd: &VcpuFd) -> io::Result<Self> {
        // SAFETY: the descriptor is a vCPU's; the call has no argument.
        let stats = unsafe { libc::ioctl(fd.as_raw_fd(), KVM_GET_STATS_FD) };
        if stats < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        let file = unsafe { File::from_raw_fd(stats) };
        let mut header = [0; HEADER_LEN];
        file.read_exact_at(&mut header, 0)?;
        let table_end = word(&header, 5).unwrap_or(0);
        let len = usize::try_from(table_end).unwrap_or(usize::MAX);
        if len > TABLE_MAX {
            return Err(io::Error::other("KVM's statistics are too large"));
        }
        let mut table = vec![0; len];
        file.read_exact_at(&mut table, 0)?;
        let place = |name| {
            find(&table, name)
                .ok_or_else(|| io::Error::other(format!("KVM's statistics lack {name}")))
        };
        Ok(Self {
            taken: place(TAKEN)?,
            settled: SETTLED.into_iter().map(place).collect::<Result<_, _>>()?,
            file,
        })
    }

    /// The counters now. A vCPU that runs does not hold this up.
    ///
    /// # Errors
    /// The read fails.
    pub fn read(&self) -> io::Result<Faults> {
        let counter = |at| {
            let mut bytes = [0; 8];
            self.file.read_exact_at(&mut bytes, at)?;
            Ok::<_, io::Error>(u64::from_ne_bytes(bytes))
        };
        let settled = self.settled.iter().map(|at| counter(*at));
        Ok(Faults {
            taken: counter(self.taken)?,
            settled: settled.sum::<io::Result<u64>>()?,
        })
    }
}

/// The file offset of the counter `name`, by the header and the table of descriptors.
fn find(table: &[u8], name: &str) -> Option<u64> {
    let name_len = usize::try_from(word(table, 1)?).ok()?;
    let count = usize::try_from(word(table, 2)?).ok()?;
    let descs = usize::try_from(word(table, 4)?).ok()?;
    let data = u64::from(word(table, 5)?);
    let stride = DESC_LEN.checked_add(name_len)?;
    table
        .get(descs..)?
        .chunks_exact(stride)
        .take(count)
        .find_map(|desc| {
            let text = desc[DESC_LEN..].split(|byte| *byte == 0).next()?;
            let offset = u64::from(word(desc, 2)?);
            (text == name.as_bytes()).then_some(data + offset)
        })
}

/// The 32-bit number at place `index`.
fn word(bytes: &[u8], index: usize) -> Option<u32> {
    let at = index * 4;
    let word = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(word))
}

#[cfg(test)]
mod tests {
    use kvm_ioctls::Kvm;

    use super::*;

    fn table(names: &[&str], count: u32) -> Vec<u8> {
        let end = HEADER_LEN + names.len() * (DESC_LEN + 12);
        let header = [0, 12, count, 0, 24, u32::try_from(end).unwrap()];
        let mut table: Vec<u8> = header.iter().flat_map(|n| n.to_ne_bytes()).collect();
        for (number, name) in (0u32..).zip(names) {
            let desc = [0, 0, number * 8, 0];
            table.extend(desc.iter().flat_map(|n| n.to_ne_bytes()));
            let mut text = name.as_bytes().to_vec();
            text.resize(12, 0);
            table.extend(text);
        }
        table
    }

    #[test]
    fn a_counter_is_found_by_its_name() {
        let table = table(&["exits", "pf_taken", "pf_fixed"], 3);
        let end = u64::try_from(table.len()).unwrap();
        assert_eq!(find(&table, "pf_fixed"), Some(end + 16));
        assert_eq!(find(&table, "pf_"), None);
    }

    #[test]
    fn a_table_that_ends_early_or_lies_is_no_panic() {
        let whole = table(&["exits", "pf_taken"], 2);
        for len in 0..whole.len() {
            assert_eq!(find(&whole[..len], "pf_taken"), None);
        }
        let mut lying = table(&["pf_taken"], u32::MAX);
        lying[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(find(&lying, "pf_taken"), None);
    }

    #[test]
    fn a_vcpu_that_never_ran_has_no_faults() {
        let Ok(kvm) = Kvm::new() else {
            eprintln!("not run: no /dev/kvm");
            return;
        };
        let vcpu = kvm.create_vm().unwrap().create_vcpu(0).unwrap();
        match FaultCounters::open(&vcpu) {
            Ok(counters) => assert_eq!(counters.read().unwrap(), Faults::default()),
            Err(e) => eprintln!("not run: {e}"),
        }
    }
}
