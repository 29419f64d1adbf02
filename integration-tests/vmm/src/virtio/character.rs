// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What is wrong with a device of bad character (`fault=`) beyond the engine's lies: accidents
//! that happen to it, how it becomes honest, and what the VMM gets wrong about it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pmem_flush::{FlushEngine, Observer, Signal, SyncBackend};

use vmm_sys_util::eventfd::EventFd;

use super::line::Line;
use super::mmio::MmioState;
use super::pmem::engine_config;
use super::pmem_thread::QueueWork;
use crate::config::{Accident, Fault, Flaw, Mishap, PmemConfig};

/// An accident that is due, shared with the device's thread.
#[derive(Clone, Default)]
pub struct Due(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    accident: Option<Accident>,
    kicks: u64,
    line: Option<Arc<Line>>,
}

impl Due {
    /// The one of `config`, if there is one.
    pub fn new(config: &PmemConfig) -> Self {
        let state = State {
            accident: config.fault.as_ref().and_then(|fault| fault.accident()),
            ..State::default()
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// The driver has set the device up.
    pub fn activated(&self, line: &Arc<Line>) {
        self.state().line = Some(line.clone());
    }

    /// Takes a notification; false if the accident happens now.
    pub fn kicked(&self) -> bool {
        let mut state = self.state();
        state.kicks += 1;
        let Some(accident) = state.accident else {
            return true;
        };
        if state.kicks < accident.at {
            return true;
        }
        state.accident = None;
        if let Some(line) = &state.line {
            match accident.mishap {
                Mishap::Gone(byte) => line.pull(byte),
                Mishap::NeedsReset => {
                    if let Err(e) = line.needs_reset() {
                        log::error!("cannot interrupt for a change of status: {e}");
                    }
                }
            }
        }
        false
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the VMM has this flaw for the device.
pub fn has(config: &PmemConfig, flaw: Flaw) -> bool {
    config.fault.as_ref().and_then(Fault::flaw) == Some(flaw)
}

/// The transport's state as a forgetful restore takes it up.
pub fn remembered(config: &PmemConfig, state: &MmioState) -> MmioState {
    let mut state = state.clone();
    if has(config, Flaw::Forgetful) {
        state.status = 0;
    }
    state
}

/// A queue that the device's thread does not survive once its ring is bad.
pub struct Fragile<Q> {
    line: Arc<Line>,
    queue: Q,
}

impl<Q: QueueWork> Fragile<Q> {
    /// Worked like `queue`, whose device signals by `line`.
    pub fn new(queue: Q, line: Arc<Line>) -> Self {
        Self { line, queue }
    }
}

impl<Q: QueueWork> QueueWork for Fragile<Q> {
    fn queue_evt(&self) -> &EventFd {
        self.queue.queue_evt()
    }

    fn wake_evt(&self) -> Option<&EventFd> {
        self.queue.wake_evt()
    }

    fn on_queue_event(&mut self) {
        self.queue.on_queue_event();
    }

    fn on_wake_event(&mut self) {
        self.queue.on_wake_event();
    }

    fn is_bearable(&self) -> bool {
        !self.line.had_enough()
    }
}

/// What it takes to make an honest device of one that lies until it is reset.
pub struct Reform(Option<Parts>);

struct Parts {
    config: PmemConfig,
    backend: Arc<dyn SyncBackend>,
    observer: Arc<dyn Observer>,
}

impl Reform {
    /// Nothing, for a device that does not change.
    pub fn new(
        config: &PmemConfig,
        backend: &Arc<dyn SyncBackend>,
        observer: &Arc<dyn Observer>,
    ) -> Self {
        let changes = config.fault.as_ref().is_some_and(|fault| fault.is_once());
        Self(changes.then(|| Parts {
            config: config.clone(),
            backend: backend.clone(),
            observer: observer.clone(),
        }))
    }

    /// After a reset: replaces the engine by an honest one, whose counters begin anew. A pause
    /// that has to wait for a flush of that one looks again only at its deadline.
    pub fn reset(&mut self, engine: &mut FlushEngine) {
        let Some(Parts {
            config,
            backend,
            observer,
        }) = self.0.take()
        else {
            return;
        };
        match FlushEngine::new(engine_config(&config, true), backend, observer) {
            Ok(honest) => *engine = honest,
            Err(e) => log::error!("pmem device {} stays as it is: {e}", config.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::IrqLine;
    use crate::virtio::line::status;

    fn due(fault: &str) -> (Due, Arc<Line>) {
        let config = PmemConfig::parse(&format!("file=/p,fault={fault}"), 0).unwrap();
        let due = Due::new(&config);
        let line = Arc::new(Line::new(IrqLine::loose()));
        line.add_status(status::DRIVER_OK);
        due.activated(&line);
        (due, line)
    }

    #[test]
    fn an_accident_happens_at_its_time_and_once() {
        let (due, line) = due("needs-reset:3");
        assert_eq!([due.kicked(), due.kicked()], [true, true]);
        assert_eq!((line.status(), line.edges()), (status::DRIVER_OK, 0));
        assert!(!due.kicked());
        assert_eq!(line.status(), status::DRIVER_OK | status::NEEDS_RESET);
        assert_eq!(line.edges(), 1);
        line.reset();
        assert!(due.kicked());
        assert_eq!(line.status(), 0);
    }

    struct Dull(EventFd);

    impl QueueWork for Dull {
        fn queue_evt(&self) -> &EventFd {
            &self.0
        }

        fn wake_evt(&self) -> Option<&EventFd> {
            None
        }

        fn on_queue_event(&mut self) {}

        fn on_wake_event(&mut self) {}
    }

    #[test]
    fn a_bad_ring_is_too_much_for_a_fragile_thread_even_if_a_reset_follows_at_once() {
        let dull = || Dull(EventFd::new(0).unwrap());
        let line = Arc::new(Line::new(IrqLine::loose()));
        let fragile = Fragile::new(dull(), line.clone());
        assert!(fragile.is_bearable() && dull().is_bearable());
        line.add_status(status::DRIVER_OK);
        line.needs_reset().unwrap();
        line.reset();
        assert!(!fragile.is_bearable());
    }

    #[test]
    fn a_forgetful_restore_forgets_the_device_status() {
        let of = |fault: &str| {
            let config = PmemConfig::parse(&format!("file=/p,fault={fault}"), 0).unwrap();
            let mut state = MmioState::default();
            state.status = status::DRIVER_OK | status::NEEDS_RESET;
            remembered(&config, &state).status
        };
        assert_eq!(of("forgetful"), 0);
        assert_eq!(of("fragile"), status::DRIVER_OK | status::NEEDS_RESET);
    }

    #[test]
    fn a_device_that_was_pulled_does_not_interrupt() {
        let (due, line) = due("gone:1");
        assert_eq!(line.gone(), None);
        assert!(!due.kicked());
        assert_eq!(line.gone(), Some(0xff));
        line.interrupt(1).unwrap();
        assert_eq!(line.edges(), 0);
    }
}
