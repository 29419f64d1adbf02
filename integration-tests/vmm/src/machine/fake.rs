// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A machine that does what a test says.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use pmem_flush::LatchCause;
use serde_json::{Value, json};
use tempfile::tempfile;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{GuestExit, Machine, MachineError, MachineFactory, Ram};
use crate::config::VmConfig;
use crate::events::EventSink;
use crate::snapshot::{RamRegion, Snapshot};

/// What the test and the machine share.
pub struct Script {
    /// The calls, in order.
    pub calls: Vec<String>,
    /// What was begun ends at once. Else the test ends it.
    pub at_once: bool,
    /// How long a pause may take.
    pub drain_timeout: Duration,
    /// A sync fails by name.
    pub latched: bool,
    /// A restore finds the pmem file changed.
    pub stale: bool,
    /// A boot fails.
    pub no_boot: bool,
    pending: Option<Instant>,
    result: Option<Result<(), String>>,
    exit: Option<GuestExit>,
}

/// The test's end; also makes the machines.
#[derive(Clone)]
pub struct Fake {
    script: Arc<Mutex<Script>>,
    progress: Arc<EventFd>,
    ended: Arc<EventFd>,
}

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

impl Fake {
    /// Everything goes well, at once.
    pub fn new() -> Self {
        let event = || Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        Self {
            script: Arc::new(Mutex::new(Script {
                calls: Vec::new(),
                at_once: true,
                drain_timeout: Duration::from_secs(600),
                latched: false,
                stale: false,
                no_boot: false,
                pending: None,
                result: None,
                exit: None,
            })),
            progress: event(),
            ended: event(),
        }
    }

    /// The script, to be changed or looked at.
    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Ends what was begun.
    pub fn finish(&self, result: Result<(), &str>) {
        self.script().result = Some(result.map_err(str::to_owned));
        self.progress.write(1).unwrap();
    }

    /// Ends the guest.
    pub fn exit(&self, exit: GuestExit) {
        self.script().exit = Some(exit);
        self.ended.write(1).unwrap();
    }

    fn begin(&self, call: String) {
        let mut script = self.script();
        script.calls.push(call);
        script.pending = Some(Instant::now() + script.drain_timeout);
        if script.at_once {
            script.result = Some(Ok(()));
            self.progress.write(1).unwrap();
        }
    }
}

impl MachineFactory for Fake {
    fn boot(
        &self,
        config: &VmConfig,
        events: &Arc<dyn EventSink>,
    ) -> Result<Box<dyn Machine>, MachineError> {
        let mut script = self.script();
        let latched = config.pmem.iter().any(|pmem| pmem.latch.is_some());
        let call = if latched { "boot latched" } else { "boot" };
        script.calls.push(call.to_owned());
        if script.no_boot {
            return Err("--pmem id=_pmem0: locked by another process".into());
        }
        // A new guest has not ended.
        script.exit = None;
        self.ended.read().ok();
        events.event("virtio-device", "activated", &[("id", "_pmem0")]);
        Ok(Box::new(self.clone()))
    }

    fn restore(
        &self,
        snapshot: &Snapshot,
        allow_stale_pmem: bool,
        _events: &Arc<dyn EventSink>,
    ) -> Result<Box<dyn Machine>, MachineError> {
        self.script().calls.push("restore".to_owned());
        let state: Value = snapshot.machine()?;
        snapshot.fill(&self.ram()?)?;
        if self.script().stale && !allow_stale_pmem {
            return Err("pmem device _pmem0: the file is stale".into());
        }
        self.script().calls.push(state.to_string());
        Ok(Box::new(self.clone()))
    }
}

impl Machine for Fake {
    fn begin_pause(&mut self) -> Result<(), MachineError> {
        self.begin("pause".to_owned());
        Ok(())
    }

    fn begin_sync(&mut self, allow_unsynced: bool) -> Result<(), MachineError> {
        if self.script().latched && !allow_unsynced {
            return Err("pmem device _pmem0: latched".into());
        }
        self.begin(format!("sync {allow_unsynced}"));
        Ok(())
    }

    fn progress_fd(&self) -> RawFd {
        self.progress.as_raw_fd()
    }

    fn deadline(&self) -> Option<Instant> {
        self.script().pending
    }

    fn poll(&mut self) -> Option<Result<(), MachineError>> {
        self.progress.read().ok();
        let mut script = self.script();
        let deadline = script.pending?;
        let result = match script.result.take() {
            Some(result) => result,
            None if Instant::now() >= deadline => {
                Err("pmem device _pmem0: drain timed out".to_owned())
            }
            None => return None,
        };
        script.pending = None;
        Some(result.map_err(MachineError::from))
    }

    fn resume(&mut self) -> Result<(), MachineError> {
        self.script().calls.push("resume".to_owned());
        Ok(())
    }

    fn save(&self) -> Result<Value, MachineError> {
        self.script().calls.push("save".to_owned());
        Ok(json!({"tsc": 7}))
    }

    fn ram(&self) -> io::Result<Ram> {
        let file = tempfile()?;
        let size = 16 << 20;
        file.set_len(size)?;
        file.write_all_at(b"guest", 4096)?;
        Ok(Ram {
            file,
            regions: vec![RamRegion {
                guest_base: 0,
                size,
                offset: 0,
            }],
        })
    }

    fn counters(&self) -> BTreeMap<String, BTreeMap<&'static str, u64>> {
        BTreeMap::from([("_pmem0".to_owned(), BTreeMap::from([("flushes", 3)]))])
    }

    fn latches(&self) -> BTreeMap<String, LatchCause> {
        let cause = LatchCause {
            errno: 5,
            error: "before the reboot".to_owned(),
        };
        let latched = self.script().latched;
        latched
            .then(|| ("_pmem0".to_owned(), cause))
            .into_iter()
            .collect()
    }

    fn power_button(&self) -> Result<(), MachineError> {
        self.script().calls.push("power-button".to_owned());
        Ok(())
    }

    fn exit_fd(&self) -> RawFd {
        self.ended.as_raw_fd()
    }

    fn exit_reason(&self) -> Option<GuestExit> {
        self.script().exit.clone()
    }
}
