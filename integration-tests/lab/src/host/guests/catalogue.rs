// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The guest driver's tests, by name.

use std::time::Duration;

use crate::host::driver::Flavour;
use crate::host::kernel::KASAN;
use crate::job::Driver;
use crate::scenarios::Expect;

/// One test of the guest driver.
#[derive(Debug)]
pub struct GuestTest {
    /// The defect that makes it fail.
    pub control: &'static str,
    /// The guest's driver, unless the command line says otherwise.
    pub driver: Driver,
    /// How a sound system lets it end.
    pub expect: Expect,
    /// How long a host flush takes, in milliseconds, beyond what it takes.
    pub flush_ms: u32,
    /// The groups it belongs to.
    pub groups: &'static [&'static str],
    /// True if it breaks the device by the driver's fault hooks.
    pub hooks: bool,
    /// The guest's kernel, unless the command line says otherwise.
    pub kernel: &'static str,
    /// What the console must say after the guest's verdict, when it goes down; empty: anything.
    pub last_words: &'static str,
    /// The most time it may take.
    pub limit: Duration,
    /// Its name, as the command line has it.
    pub name: &'static str,
    /// True for another PCI function, whose memory is all ones and read-only.
    pub ones: bool,
    /// True if it needs a parameter that the kernel's driver does not have.
    pub ours: bool,
    /// True for a device behind a PCIe port: the others can't be reset by the function.
    pub port: bool,
    /// The guest's script.
    pub script: &'static str,
    /// Size of a second device in MiB; 0: none.
    pub second_mib: u32,
    /// What the script is told; the command line goes before it.
    pub settings: &'static [(&'static str, &'static str)],
    /// What it shows, one line.
    pub summary: &'static str,
}

/// What a test runs under.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Under {
    /// A stock kernel.
    Stock,
    /// The kernel with KASAN and all its checks.
    Kasan,
}

impl Under {
    /// How much longer things take.
    pub fn slowness(self) -> u32 {
        match self {
            Self::Stock => 1,
            Self::Kasan => 4,
        }
    }

    /// Memory of the guest, in MiB. KASAN's shadow takes an eighth, its quarantine more.
    pub fn memory_mib(self) -> u32 {
        match self {
            Self::Stock => 512,
            Self::Kasan => 1024,
        }
    }
}

impl GuestTest {
    /// True for one that shows that a defect is seen: what it runs with is not to be chosen.
    pub fn is_control(&self) -> bool {
        self.expect != Expect::Pass
    }

    /// True if the kernel's driver has not what it takes.
    pub fn needs_ours(&self) -> bool {
        self.hooks || self.ours
    }

    /// The build of our driver it runs with.
    pub fn flavour(&self, under: Under) -> Flavour {
        match (self.script, under) {
            ("use-after-free", _) => Flavour::UseAfterFree,
            (_, Under::Kasan) => Flavour::Faults,
            (_, Under::Stock) if self.hooks => Flavour::Faults,
            (_, Under::Stock) => Flavour::Normal,
        }
    }

    /// Its name in the run under KASAN; none if it has no place there.
    pub fn kasan_name(&self) -> Option<String> {
        if self.kernel == KASAN {
            return Some(self.name.to_owned());
        }
        let rest = self.name.strip_prefix("guest-")?;
        (!self.is_control()).then(|| format!("kasan-{rest}"))
    }
}

/// The test with this name, under a stock kernel or KASAN.
pub fn find(name: &str) -> Option<&'static GuestTest> {
    ALL.iter()
        .find(|test| test.name == name || test.kasan_name().as_deref() == Some(name))
}

/// Part of the default run.
const GUEST: &[&str] = &["guest"];

/// The driver's own run under a stock kernel.
const USUAL: GuestTest = GuestTest {
    control: "",
    driver: Driver::Rust,
    expect: Expect::Pass,
    flush_ms: 20,
    groups: GUEST,
    hooks: false,
    kernel: "7.3",
    last_words: "",
    limit: Duration::from_secs(300),
    name: "",
    ones: false,
    ours: false,
    port: false,
    script: "",
    second_mib: 0,
    settings: &[],
    summary: "",
};

/// Every one, in the order a reader meets them.
pub const ALL: &[GuestTest] = &[
    GuestTest {
        control: "a driver whose flush fails, or a region without struct pages: no DAX",
        flush_ms: 0,
        name: "guest-sanity",
        script: "sanity",
        summary: "mkfs, mount with DAX, fsync, umount and fsck of ext4 and XFS; wipefs",
        ..USUAL
    },
    GuestTest {
        control: "a driver that takes INDIRECT_DESC, or leaves a published flush without a kick",
        kernel: "6.12",
        name: "guest-ring",
        script: "ring",
        summary: "INDIRECT_DESC is declined, and each request is one notification",
        ..USUAL
    },
    GuestTest {
        control: "a host flush for each fsync",
        name: "guest-coalesces",
        script: "coalesces",
        summary: "1 thread: a host flush each; 16 threads: at most 0.2",
        ..USUAL
    },
    GuestTest {
        control: "a submitter that waits in its bio: no bio is kept, no two of them share a host flush",
        name: "guest-bios",
        script: "bios",
        summary: "FUA writes: bios are kept, no error, at most 0.2 host flushes each",
        ..USUAL
    },
    GuestTest {
        control: "a probe that takes the region as it is: add_memory fails or the kernel oopses",
        hooks: true,
        kernel: "6.12",
        name: "guest-bad-region",
        script: "bad-region",
        summary: "a region that is empty, unaligned or too high is refused with its numbers",
        ..USUAL
    },
    GuestTest {
        control: "a waiter that is not woken hangs; one that is told 0 is counted",
        hooks: true,
        name: "guest-kick-fails",
        script: "kick-fails",
        summary: "a notification fails: all 16 threads get -EIO, then fail fast; bound anew, it works",
        ..USUAL
    },
    GuestTest {
        control: "a driver that does not look at the status: nobody is told",
        hooks: true,
        kernel: "6.12",
        name: "guest-needs-reset",
        script: "needs-reset",
        summary: "QEMU sets NEEDS_RESET: all threads get -EIO; bound anew, it works",
        ..USUAL
    },
    GuestTest {
        control: "a driver without a watchdog waits for ever",
        hooks: true,
        name: "guest-silent-device",
        script: "silent-device",
        summary: "an answer is lost: -ETIMEDOUT after flush_timeout_ms; bound anew, it works",
        ..USUAL
    },
    GuestTest {
        control: "a driver that frees what the host still has: the answer is to nobody's request",
        flush_ms: 3000,
        kernel: "6.12",
        name: "guest-late-answer",
        ours: true,
        script: "late-answer",
        summary: "an answer that comes after its waiters have left does no harm",
        ..USUAL
    },
    GuestTest {
        control: "a watchdog that does not look at the ring: the flush waits for ever",
        hooks: true,
        name: "guest-lost-interrupt",
        script: "lost-interrupt",
        summary: "an interrupt is lost: the watchdog finds the answer, nobody sees an error",
        ..USUAL
    },
    GuestTest {
        control: "the kernel's driver: guest-unbind-control",
        flush_ms: 5,
        kernel: "6.12",
        name: "guest-unbind-under-load",
        script: "unbind-under-load",
        summary: "20 times unbind and bind under load: no hang, and the last flush succeeds",
        ..USUAL
    },
    GuestTest {
        control: "it is one: the kernel's driver breaks the queue before the last flush",
        driver: Driver::C,
        expect: Expect::Failure(&["a flush failed in round 1"]),
        flush_ms: 5,
        name: "guest-unbind-control",
        script: "unbind-under-load",
        summary: "unbind-under-load sees that the kernel's driver loses the last flush",
        ..USUAL
    },
    GuestTest {
        control: "the kernel's driver: guest-suspend-control",
        flush_ms: 50,
        name: "guest-suspend",
        script: "suspend",
        summary: "S3 five times with flushes in flight and parked: no error",
        ..USUAL
    },
    GuestTest {
        control: "it is one: the kernel's driver deletes a queue with a request in it",
        driver: Driver::C,
        expect: Expect::Failure(&["waited in vain for flushes after resume"]),
        flush_ms: 50,
        groups: &["guest-long"],
        name: "guest-suspend-control",
        script: "suspend",
        summary: "suspend sees that the kernel's driver loses requests",
        ..USUAL
    },
    GuestTest {
        control: "the kernel's driver: guest-hibernate-control",
        flush_ms: 50,
        kernel: "6.12",
        name: "guest-hibernate",
        script: "hibernate",
        second_mib: 1024,
        summary: "hibernation five times, its image on a second pmem: no error",
        ..USUAL
    },
    GuestTest {
        control: "it is one: the kernel's driver fails the flushes that meet a suspended device",
        driver: Driver::C,
        expect: Expect::Failure(&["flushes that failed: wanted 0, got"]),
        flush_ms: 50,
        groups: &["guest-long"],
        name: "guest-hibernate-control",
        script: "hibernate",
        second_mib: 1024,
        summary: "hibernate sees that the kernel's driver fails flushes",
        ..USUAL
    },
    GuestTest {
        control: "a freeze that gives up and stays frozen: flushes hang; one that breaks the device",
        flush_ms: 3000,
        name: "guest-suspend-called-off",
        ours: true,
        script: "suspend-called-off",
        summary: "freeze_timeout_ms passes: -EBUSY to the suspend, no error to a flush",
        ..USUAL
    },
    GuestTest {
        control: "a driver that is not told, or does not look: its request is gone, and its waiters hang",
        flush_ms: 50,
        name: "guest-pci-reset",
        port: true,
        script: "pci-reset",
        summary: "the PCI function is reset five times under load: no error; 6.12: -EIO at once",
        ..USUAL
    },
    GuestTest {
        control: "a driver that resets a function which is not there: its removal waits for ever",
        kernel: "6.12",
        limit: Duration::from_secs(120),
        name: "guest-absent",
        ones: true,
        script: "absent",
        summary: "a PCI function whose registers turn to ones: -EIO at once, and its removal ends",
        ..USUAL
    },
    GuestTest {
        control: "a driver that waits for its restore: flushes sleep for ever",
        hooks: true,
        name: "guest-restore-fails",
        script: "restore-fails",
        summary: "a resume that does not reach the driver: -EIO; the next suspend brings it back",
        ..USUAL
    },
    GuestTest {
        control: "a shutdown that does not end the flushes of threads",
        flush_ms: 50,
        kernel: "6.12",
        limit: Duration::from_secs(90),
        name: "guest-shutdown-under-load",
        script: "shutdown-under-load",
        summary: "a reboot while threads flush ends",
        ..USUAL
    },
    GuestTest {
        control: "a bound that begins with the driver's shutdown: the memory's users wait before it",
        hooks: true,
        last_words: "broken: the device did not answer a flush in time",
        limit: Duration::from_secs(90),
        name: "guest-shutdown-silent",
        script: "shutdown-silent",
        summary: "a reboot while the host is silent ends after remove_timeout_ms",
        ..USUAL
    },
    GuestTest {
        control: "it is one: Rust code that reads a request after it was freed",
        expect: Expect::Failure(&["KASAN: slab-use-after-free", "touch_freed_request"]),
        groups: &["kasan"],
        hooks: true,
        kernel: KASAN,
        name: "kasan-use-after-free",
        script: "use-after-free",
        summary: "KASAN sees a use after free in the driver's Rust code, and names it",
        ..USUAL
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;
    use crate::host::guests::image;
    use crate::host::kernel::SERIES;
    use crate::host::programs;

    #[test]
    fn every_test_has_a_script_and_every_script_a_test() {
        let used: BTreeSet<_> = ALL.iter().map(|test| test.script.to_owned()).collect();
        for name in &used {
            assert!(image::script(name).unwrap().contains("load_"));
        }
        let dir = programs::workspace()
            .unwrap()
            .join("guest-driver/linux/tests/scenarios");
        let there: BTreeSet<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(used, there);
    }

    #[test]
    fn the_default_run_meets_all_kernels_both_drivers_and_a_control() {
        let default: Vec<_> = ALL.iter().filter(|test| test.groups == GUEST).collect();
        for series in SERIES {
            assert!(default.iter().any(|test| test.kernel == *series));
        }
        for driver in [Driver::C, Driver::Rust] {
            assert!(default.iter().any(|test| test.driver == driver));
        }
        assert!(default.iter().any(|test| test.is_control()));
    }

    #[test]
    fn names_are_unique_under_both_kinds_of_kernel() {
        let mut seen = BTreeSet::new();
        for test in ALL {
            assert!(seen.insert(test.name.to_owned()), "{}", test.name);
            match test.kasan_name() {
                Some(name) if name != test.name => assert!(seen.insert(name)),
                _ => {}
            }
        }
        assert_eq!(find("kasan-sanity").unwrap().name, "guest-sanity");
        assert!(find("kasan-suspend-control").is_none());
    }
}
