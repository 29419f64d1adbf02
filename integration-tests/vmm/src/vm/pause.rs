// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Pause, file sync and resume as a state machine that is moved on by [`Machine::poll`]:
//! the caller's thread never waits.
//!
//! A pause parks the vCPUs, then drains all devices at once, so that no driver can reset a
//! device that is being drained. Each device has its own `drain_timeout`, all counted from
//! the pause's beginning; the vCPUs have the longest of them (one may hang on storage
//! under a page it touches). When anything is late, everything runs again.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use kvm_bindings::kvm_clock_data;
use pmem_flush::{DEFAULT_DRAIN_TIMEOUT, DrainStatus, FlushEngine, LatchCause};
use serde_json::Value;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Vm, VmError};
use crate::cpu;
use crate::devices::Window;
use crate::machine::{GuestExit, Machine, MachineError, Ram};
use crate::memory;
use crate::virtio::pmem::engine_error;

/// What a machine is doing.
pub(super) enum Phase {
    /// The guest runs.
    Running,
    /// The vCPUs were asked to park, at this time.
    Parking(Instant),
    /// They have; the devices were asked to drain.
    Draining(Vec<Waiting>),
    /// Everything is parked.
    Paused,
    /// Everything is parked; the files are being synced.
    Syncing(Vec<Waiting>),
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Parking(_) | Self::Draining(_) => "being paused",
            Self::Paused => "paused",
            Self::Syncing(_) => "syncing its files",
        }
    }
}

/// A device that is waited for.
pub(super) struct Waiting {
    engine: FlushEngine,
    deadline: Instant,
}

/// Tells when [`Machine::poll`] has something to do: a vCPU has parked, or an engine has
/// got on.
pub(super) struct Progress {
    epoll: Epoll,
    event: Arc<EventFd>,
    engines: Vec<FlushEngine>,
}

impl Progress {
    /// Watches the devices behind `windows`.
    pub(super) fn new(windows: &[Window]) -> Result<Self, VmError> {
        let error = |e| VmError::Host("cannot watch the machine's progress", e);
        let epoll = Epoll::new().map_err(error)?;
        let event = Arc::new(EventFd::new(EFD_NONBLOCK).map_err(error)?);
        let engines: Vec<_> = windows
            .iter()
            .map(|window| window.lock().device().engine().clone())
            .collect();
        let watch =
            |fd: RawFd| epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN, 0));
        watch(event.as_raw_fd()).map_err(error)?;
        for engine in &engines {
            watch(engine.management_evt().as_raw_fd()).map_err(error)?;
        }
        Ok(Self {
            epoll,
            event,
            engines,
        })
    }

    /// The vCPUs' event.
    pub(super) fn event(&self) -> &Arc<EventFd> {
        &self.event
    }

    fn empty(&self) {
        let empty = |event: &EventFd| match event.read() {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => {
                log::error!("cannot read a machine's event: {e}");
            }
            _ => {}
        };
        empty(&self.event);
        for engine in &self.engines {
            empty(engine.management_evt());
        }
    }
}

impl Vm {
    fn wrong_phase(&self, needed: &'static str) -> MachineError {
        Box::new(VmError::RunState {
            is: self.phase.name(),
            needed,
        })
    }

    /// Each device's engine and drain timeout.
    fn engines(&self) -> Vec<(FlushEngine, Duration)> {
        self.bus
            .windows()
            .iter()
            .map(|window| {
                let mmio = window.lock();
                (
                    mmio.device().engine().clone(),
                    mmio.device().drain_timeout(),
                )
            })
            .collect()
    }

    fn park_timeout(&self) -> Duration {
        self.engines()
            .iter()
            .map(|(_, timeout)| *timeout)
            .max()
            .unwrap_or(DEFAULT_DRAIN_TIMEOUT)
    }

    /// Lets devices and vCPUs run.
    fn run(&mut self) {
        for window in self.bus.windows() {
            window.lock().device().resume();
        }
        self.bus.interrupt_again();
        self.vcpus.run();
        self.phase = Phase::Running;
    }

    fn poll_parking(&mut self, since: Instant) -> Option<Result<(), VmError>> {
        let running = self.vcpus.running();
        if running.is_empty() {
            for window in self.bus.windows() {
                window.lock().device().pause();
            }
            let waiting = self
                .engines()
                .into_iter()
                .map(|(engine, timeout)| Waiting {
                    engine,
                    deadline: since + timeout,
                })
                .collect::<Vec<_>>();
            for device in &waiting {
                device.engine.begin_drain(device.deadline);
            }
            return self.poll_draining(waiting);
        }
        if Instant::now() >= since + self.park_timeout() {
            self.run();
            return Some(Err(VmError::ParkTimeout(running)));
        }
        self.phase = Phase::Parking(since);
        None
    }

    fn poll_draining(&mut self, waiting: Vec<Waiting>) -> Option<Result<(), VmError>> {
        let mut left = Vec::new();
        for device in waiting {
            let id = device.engine.id();
            let failed = match device.engine.poll_drain() {
                DrainStatus::Drained => continue,
                DrainStatus::Pending => {
                    left.push(device);
                    continue;
                }
                DrainStatus::TimedOut => engine_error(id, &pmem_flush::Error::DrainTimedOut),
                DrainStatus::Cancelled | DrainStatus::None => {
                    engine_error(id, &pmem_flush::Error::DrainCancelled)
                }
            };
            self.run();
            return Some(Err(failed));
        }
        if !left.is_empty() {
            self.phase = Phase::Draining(left);
            return None;
        }
        match self.vm.get_clock() {
            Ok(clock) => {
                self.clock = clock;
                self.phase = Phase::Paused;
                Some(Ok(()))
            }
            Err(e) => {
                self.run();
                Some(Err(VmError::Kvm("KVM_GET_CLOCK", e)))
            }
        }
    }

    fn poll_syncing(&mut self, waiting: Vec<Waiting>) -> Option<Result<(), VmError>> {
        let mut left = Vec::new();
        let mut failed = None;
        for device in waiting {
            match device.engine.poll_file_sync() {
                Poll::Pending => left.push(device),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(e)) => {
                    failed.get_or_insert(engine_error(device.engine.id(), &e));
                }
            }
        }
        // All are waited for, also after a failure: each result can be taken once, and the
        // next attempt must not find an old one.
        if !left.is_empty() {
            self.sync_failure = failed.or_else(|| self.sync_failure.take());
            self.phase = Phase::Syncing(left);
            return None;
        }
        self.phase = Phase::Paused;
        Some(match failed.or_else(|| self.sync_failure.take()) {
            None => Ok(()),
            Some(e) => Err(e),
        })
    }

    /// Sets KVM's clock to where the guest's time stands.
    pub(super) fn set_clock(&self) -> Result<(), VmError> {
        // Flags would let KVM add the time that has passed since.
        self.vm
            .set_clock(&kvm_clock_data {
                clock: self.clock.clock,
                ..Default::default()
            })
            .map_err(|e| VmError::Kvm("KVM_SET_CLOCK", e))
    }
}

impl Machine for Vm {
    fn begin_pause(&mut self) -> Result<(), MachineError> {
        if !matches!(self.phase, Phase::Running) {
            return Err(self.wrong_phase("running"));
        }
        self.vcpus.park();
        self.phase = Phase::Parking(Instant::now());
        // They may all have ended already: then nobody else would say so.
        self.progress
            .event
            .write(1)
            .map_err(|e| VmError::Host("cannot write a machine's event", e))?;
        Ok(())
    }

    fn begin_sync(&mut self, allow_unsynced: bool) -> Result<(), MachineError> {
        if !matches!(self.phase, Phase::Paused) {
            return Err(self.wrong_phase("paused"));
        }
        let now = Instant::now();
        let waiting: Vec<_> = self
            .engines()
            .into_iter()
            .map(|(engine, timeout)| Waiting {
                engine,
                deadline: now + timeout,
            })
            .collect();
        let mut begun = Vec::new();
        self.sync_failure = None;
        for device in waiting {
            match device
                .engine
                .begin_file_sync(device.deadline, allow_unsynced)
            {
                Ok(()) => begun.push(device),
                Err(e) => {
                    let e = engine_error(device.engine.id(), &e);
                    self.sync_failure.get_or_insert(e);
                }
            }
        }
        self.phase = Phase::Syncing(begun);
        self.progress
            .event
            .write(1)
            .map_err(|e| VmError::Host("cannot write a machine's event", e))?;
        Ok(())
    }

    fn progress_fd(&self) -> RawFd {
        self.progress.epoll.as_raw_fd()
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Running | Phase::Paused => None,
            Phase::Parking(since) => Some(*since + self.park_timeout()),
            Phase::Draining(waiting) | Phase::Syncing(waiting) => {
                waiting.iter().map(|device| device.deadline).min()
            }
        }
    }

    fn poll(&mut self) -> Option<Result<(), MachineError>> {
        self.progress.empty();
        let result = match mem::replace(&mut self.phase, Phase::Paused) {
            Phase::Parking(since) => self.poll_parking(since),
            Phase::Draining(waiting) => self.poll_draining(waiting),
            Phase::Syncing(waiting) => self.poll_syncing(waiting),
            idle => {
                self.phase = idle;
                None
            }
        };
        result.map(|result| result.map_err(Into::into))
    }

    fn resume(&mut self) -> Result<(), MachineError> {
        if !matches!(self.phase, Phase::Paused) {
            return Err(self.wrong_phase("paused"));
        }
        self.set_clock()?;
        self.vcpus.each(cpu::announce_pause)?;
        self.run();
        Ok(())
    }

    fn save(&self) -> Result<Value, MachineError> {
        if !matches!(self.phase, Phase::Paused) {
            return Err(self.wrong_phase("paused"));
        }
        Ok(serde_json::to_value(self.get()?)?)
    }

    fn ram(&self) -> io::Result<Ram> {
        memory::as_file(&self.ram)
    }

    fn counters(&self) -> BTreeMap<String, BTreeMap<&'static str, u64>> {
        self.bus
            .windows()
            .iter()
            .map(|window| {
                let mmio = window.lock();
                let device = mmio.device();
                (device.engine().id().to_owned(), device.counters())
            })
            .collect()
    }

    fn latches(&self) -> BTreeMap<String, LatchCause> {
        self.bus
            .windows()
            .iter()
            .filter_map(|window| {
                let mmio = window.lock();
                let engine = mmio.device().engine();
                Some((engine.id().to_owned(), engine.latch()?))
            })
            .collect()
    }

    fn power_button(&self) -> Result<(), MachineError> {
        Ok(self.bus.press_power_button()?)
    }

    fn exit_fd(&self) -> RawFd {
        self.exit.fd()
    }

    fn exit_reason(&self) -> Option<GuestExit> {
        self.exit.get()
    }
}
