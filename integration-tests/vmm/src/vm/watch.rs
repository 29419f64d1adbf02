// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Finds a guest that can't go on because a page of its pmem file cannot be had.
//!
//! When a guest with interrupts enabled touches a page that the host cannot give it, KVM
//! does not return EFAULT: it puts the vCPU to sleep for the page (asynchronous page
//! fault), wakes it though the page did not come, and tries again, for ever. Faults that
//! are taken and never settled give that away; a file that is too short, or has holes on a
//! full disk, is the reason.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{ExitNote, VmError};
use crate::cpu::{FaultCounters, Faults};
use crate::devices::DeviceBus;
use crate::machine::GuestExit;

/// How often the counters are looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// After how many looks in a row without a settled fault a vCPU counts as stuck.
const LOOKS: u32 = 3;
/// How many faults a vCPU has to take meanwhile: one that only waits for a slow disk takes
/// few.
const TRIES: u64 = 20;

/// The watching thread; dropping it ends it.
pub(super) struct Watch {
    end: Arc<EventFd>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watch {
    /// Watches the vCPUs with these counters.
    ///
    /// # Errors
    /// No thread or descriptor left.
    pub(super) fn start(
        vcpus: Vec<FaultCounters>,
        bus: Arc<DeviceBus>,
        exit: Arc<ExitNote>,
    ) -> Result<Self, VmError> {
        let error = |e| VmError::Host("cannot watch the vCPUs", e);
        let end = Arc::new(EventFd::new(EFD_NONBLOCK).map_err(error)?);
        let epoll = Epoll::new().map_err(error)?;
        let event = EpollEvent::new(EventSet::IN, 0);
        epoll
            .ctl(ControlOperation::Add, end.as_raw_fd(), event)
            .map_err(error)?;
        let thread = thread::Builder::new()
            .name("vcpu-watch".into())
            .spawn(move || watch(&epoll, &vcpus, &bus, &exit))
            .map_err(error)?;
        Ok(Self {
            end,
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Err(e) = self.end.write(1) {
            log::error!("cannot end the watch of the vCPUs: {e}");
        } else if self.thread.take().is_some_and(|t| t.join().is_err()) {
            log::error!("the watch of the vCPUs panicked");
        }
    }
}

fn watch(epoll: &Epoll, vcpus: &[FaultCounters], bus: &DeviceBus, exit: &ExitNote) {
    let period = i32::try_from(PERIOD.as_millis()).unwrap_or(i32::MAX);
    let mut stuck = vec![Stuck::default(); vcpus.len()];
    loop {
        match epoll.wait(period, &mut [EpollEvent::default()]) {
            Ok(0) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            _ => return,
        }
        for (id, (counters, stuck)) in vcpus.iter().zip(&mut stuck).enumerate() {
            let Ok(now) = counters.read() else { continue };
            if stuck.look(now)
                && let Some(reason) = bus.starved_file()
            {
                exit.set(GuestExit::Failed(format!("vCPU {id}: {reason}")));
                return;
            }
        }
    }
}

/// What is remembered of a vCPU between two looks.
#[derive(Clone, Copy, Default)]
struct Stuck {
    since: Faults,
    looks: u32,
}

impl Stuck {
    /// True if the vCPU has taken faults and settled none for a while.
    fn look(&mut self, now: Faults) -> bool {
        if now.settled != self.since.settled {
            *self = Self {
                since: now,
                looks: 0,
            };
            return false;
        }
        self.looks = self.looks.saturating_add(1);
        self.looks >= LOOKS && now.taken.saturating_sub(self.since.taken) >= TRIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(taken: u64, settled: u64) -> Faults {
        Faults { taken, settled }
    }

    #[test]
    fn a_vcpu_that_tries_in_vain_is_stuck() {
        let mut stuck = Stuck::default();
        assert!(!stuck.look(faults(100, 100)));
        assert!(!stuck.look(faults(1000, 100)));
        assert!(!stuck.look(faults(2000, 100)));
        assert!(stuck.look(faults(3000, 100)));
    }

    #[test]
    fn a_vcpu_that_gets_on_or_rests_is_not_stuck() {
        let mut stuck = Stuck::default();
        for n in 0..100 {
            assert!(
                !stuck.look(faults(n * 1000, n)),
                "it settles one in a while"
            );
        }
        for _ in 0..100 {
            assert!(!stuck.look(faults(99_000, 99)), "it takes none");
        }
        for n in 0..10 {
            assert!(
                !stuck.look(faults(99_000 + n, 99)),
                "it waits for a slow disk"
            );
        }
    }
}
