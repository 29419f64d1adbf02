// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Hardware virtualisation or emulation: what this machine can really do.
//!
//! /dev/kvm alone tells little: a KVM without vmx or svm may open it, create a machine and then
//! interpret its kernel at a few hundred thousand instructions a second. And a hardware KVM that
//! does not nest gives a lab without a KVM of its own.

use std::env;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::boot;
use crate::host::machine::{Console, Machine};

/// How the lab machine is run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Accel {
    /// Hardware virtualisation.
    Kvm,
    /// QEMU's TCG with an emulated SVM.
    Tcg,
}

/// The variable that overrides the decision.
const VARIABLE: &str = "PMEM_FLUSH_LAB";

/// A stock kernel takes about a second on a real KVM.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// Most flags a kernel for QEMU's TCG is happy with and kvm-amd runs on. `-cpu max` is not among
/// the choices: its FPU state makes a current kernel panic.
///
/// Not cmpxchg16b: when an exit to the lab's KVM meets it, QEMU 7.2 leaves the guest with flags
/// that are another register's bits. Linux 6.12's slab allocator uses it all the time, and one
/// guest in five died of it while booting.
const TCG_CPU: &str =
    "qemu64,-cx16,+svm,+npt,+ssse3,+sse4.1,+sse4.2,+popcnt,+pclmulqdq,+aes,+rdrand";

impl Accel {
    /// By the variable, the CPU's flags, the device node and a real guest, in this order.
    pub fn choose(kernel: &Path, initrd: &Path, runs: &Path) -> Result<Self> {
        let wish = env::var(VARIABLE).ok();
        if let Some(chosen) = forced(wish.as_deref())? {
            return Ok(chosen);
        }
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let node = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_ok();
        if !(virtualises(&cpuinfo) && node) {
            return Ok(Self::Tcg);
        }
        Ok(if real_guest_runs(kernel, initrd, runs) {
            Self::Kvm
        } else {
            Self::Tcg
        })
    }

    /// QEMU's arguments for it.
    pub fn args(self) -> Vec<&'static str> {
        match self {
            Self::Kvm => vec!["-accel", "kvm", "-cpu", "host", "-smp", "2"],
            // One CPU: with two, code patched by one was once executed stale by the other.
            Self::Tcg => vec!["-accel", "tcg,tb-size=512", "-cpu", TCG_CPU, "-smp", "1"],
        }
    }

    /// For people and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

fn forced(value: Option<&str>) -> Result<Option<Accel>> {
    match value {
        None | Some("") => Ok(None),
        Some("kvm") => Ok(Some(Accel::Kvm)),
        Some("tcg") => Ok(Some(Accel::Tcg)),
        Some(other) => bail!("{VARIABLE}={other:?}: wanted kvm or tcg"),
    }
}

fn virtualises(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| {
            line.split_whitespace()
                .any(|flag| flag == "vmx" || flag == "svm")
        })
}

fn real_guest_runs(kernel: &Path, initrd: &Path, runs: &Path) -> bool {
    let probe = Machine::probe(Accel::Kvm, kernel, initrd, runs, boot::PROBE);
    let probe = probe.and_then(|mut machine| {
        machine.wait(PROBE_LIMIT)?;
        Ok(machine.console())
    });
    probe.is_ok_and(|Console(text)| text.contains(boot::PROBE_OK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_override_is_taken_or_refused_by_name() {
        assert_eq!(forced(Some("kvm")).unwrap(), Some(Accel::Kvm));
        assert_eq!(forced(Some("tcg")).unwrap(), Some(Accel::Tcg));
        assert_eq!(forced(None).unwrap(), None);
        let error = forced(Some("xen")).unwrap_err().to_string();
        assert!(
            error.contains("PMEM_FLUSH_LAB=\"xen\"") && error.contains("kvm or tcg"),
            "{error}"
        );
    }

    #[test]
    fn the_cpu_flag_is_a_whole_word_of_the_flags_line() {
        assert!(virtualises("flags\t\t: fpu vmx sse\n"));
        assert!(virtualises("flags\t\t: fpu svm\n"));
        assert!(!virtualises(
            "flags\t\t: fpu svm_lock vmxish\nvmx flags : x\n"
        ));
        assert!(!virtualises("model name : svm\n"));
    }
}
