// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Finds a guest that can't go on because a page of its pmem file cannot be had.
//!
//! When a guest with interrupts enabled touches a page that the host cannot give it, KVM
//! does not return EFAULT: it puts the vCPU to sleep for the page (asynchronous page
//! fault), wakes it though the page did not come, and tries again, for ever. Faults that
//! are taken and never settled give that away. Such a vCPU is a suspect, no more: KVM is
//! then asked for the page (`cpu/still.rs`), and one that can go on goes on.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::VmError;
use crate::cpu::{FaultCounters, Faults, Probe};

/// How often the counters are looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// How many faults in vain make a vCPU a suspect. One that waits for a slow disk takes each
/// of its faults twice, and settles it once.
const TRIES: u64 = 20;

/// The watching thread; dropping it ends it.
pub(super) struct Watch {
    end: Arc<EventFd>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watch {
    /// Watches the vCPUs with these counters, in the order of `probe`.
    ///
    /// # Errors
    /// No thread or descriptor left.
    pub(super) fn start(vcpus: Vec<FaultCounters>, probe: Probe) -> Result<Self, VmError> {
        let error = |e| VmError::Host("cannot watch the vCPUs", e);
        let end = Arc::new(EventFd::new(EFD_NONBLOCK).map_err(error)?);
        let epoll = Epoll::new().map_err(error)?;
        let event = EpollEvent::new(EventSet::IN, 0);
        epoll
            .ctl(ControlOperation::Add, end.as_raw_fd(), event)
            .map_err(error)?;
        let thread = thread::Builder::new()
            .name("vcpu-watch".into())
            .spawn(move || watch(&epoll, &vcpus, &probe))
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

fn watch(epoll: &Epoll, vcpus: &[FaultCounters], probe: &Probe) {
    let period = i32::try_from(PERIOD.as_millis()).unwrap_or(i32::MAX);
    let mut looks = vec![Look::default(); vcpus.len()];
    loop {
        match epoll.wait(period, &mut [EpollEvent::default()]) {
            Ok(0) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            _ => return,
        }
        for (index, (counters, look)) in vcpus.iter().zip(&mut looks).enumerate() {
            let Ok(now) = counters.read() else { continue };
            if look.is_suspect(now) {
                probe.vcpu(index);
            }
        }
    }
}

/// What is remembered of a vCPU between two looks.
#[derive(Clone, Copy, Default)]
struct Look {
    last: Faults,
    in_vain: u64,
}

impl Look {
    /// True if the vCPU takes faults and settles few of them.
    fn is_suspect(&mut self, now: Faults) -> bool {
        let settled = now.settled.saturating_sub(self.last.settled);
        let taken = now.taken.saturating_sub(self.last.taken);
        self.last = now;
        // Each one that was settled makes up for one that was not.
        self.in_vain = (self.in_vain + taken.saturating_sub(settled)).saturating_sub(settled);
        self.in_vain >= TRIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(taken: u64, settled: u64) -> Faults {
        Faults { taken, settled }
    }

    #[test]
    fn a_vcpu_that_tries_in_vain_is_a_suspect() {
        let mut fast = Look::default();
        assert!(!fast.is_suspect(faults(100, 100)));
        assert!(fast.is_suspect(faults(1000, 110)));
        let mut slow = Look::default();
        let found = (0..40).find(|&n| slow.is_suspect(faults(n, 0)));
        assert_eq!(found, Some(TRIES), "a disk that takes its time to fail");
    }

    #[test]
    fn a_vcpu_that_gets_on_or_rests_is_none() {
        let mut look = Look::default();
        for n in 0..100 {
            let waits = faults(n * 1000, n * 500);
            assert!(!look.is_suspect(waits), "a slow disk: each fault twice");
        }
        for _ in 0..100 {
            assert!(!look.is_suspect(faults(99_000, 49_500)), "it takes none");
        }
    }

    #[test]
    fn a_suspect_that_gets_on_is_cleared() {
        let mut look = Look::default();
        assert!(look.is_suspect(faults(30, 0)));
        assert!(!look.is_suspect(faults(130, 100)));
    }
}
