// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What each request means.

use std::process;

use serde_json::{Value, json, to_value};

use super::Control;
use crate::api::{Action, Answer, ApiError, Reply, Request, VmError, VmInfo, VmState};
use crate::{BUILD_VERSION, FEATURES};

impl Control {
    /// Answers a request, or begins what will answer it.
    pub(super) fn answer(&mut self, request: Request) {
        let Request { action, reply } = request;
        let answer = match action {
            Action::Ping => Ok(Some(ping())),
            Action::Info => self.info().map(Some).map_err(ApiError::Info),
            Action::Counters => self.counters().map(Some).map_err(ApiError::Info),
            Action::Pause => return self.begin_pause(reply),
            Action::Snapshot(snapshot) => return self.begin_snapshot(&snapshot, reply),
            Action::Resume => nothing(self.resume().map_err(ApiError::Resume)),
            Action::Restore(restore) => nothing(self.restore(&restore).map_err(ApiError::Restore)),
            Action::PowerButton => nothing(self.power_button().map_err(ApiError::PowerButton)),
            Action::Shutdown => nothing(self.vm_shutdown().map_err(ApiError::Shutdown)),
            Action::VmmShutdown => return self.vmm_shutdown(reply),
        };
        reply.send(answer);
    }

    fn info(&self) -> Result<Value, VmError> {
        let config = self.config.as_ref().ok_or(VmError::NotCreated)?;
        let info = VmInfo {
            config,
            state: self.vm.as_ref().map_or(VmState::Created, |vm| vm.state()),
            memory_actual_size: config.memory.size,
        };
        to_value(info).map_err(|error| VmError::Machine(error.into()))
    }

    fn counters(&self) -> Result<Value, VmError> {
        let vm = self.vm.as_ref().ok_or(VmError::NotRunning)?;
        to_value(vm.machine.counters()).map_err(|error| VmError::Machine(error.into()))
    }

    fn resume(&mut self) -> Result<(), VmError> {
        let vm = self.vm.as_mut().ok_or(VmError::NotRunning)?;
        vm.check_resumable()?;
        self.events.event("vm", "resuming", &[]);
        vm.resume()?;
        self.events.event("vm", "resumed", &[]);
        Ok(())
    }

    fn power_button(&self) -> Result<(), VmError> {
        let vm = self.vm.as_ref().ok_or(VmError::NotRunning)?;
        vm.check_idle()?;
        Ok(vm.machine.power_button()?)
    }

    fn vm_shutdown(&mut self) -> Result<(), VmError> {
        if self.shutdown() {
            Ok(())
        } else {
            Err(VmError::NotRunning)
        }
    }

    fn vmm_shutdown(&mut self, reply: Reply) {
        self.shutdown();
        self.ending = true;
        reply.send(Ok(None));
    }
}

fn nothing(result: Result<(), ApiError>) -> Answer {
    result.map(|()| None)
}

fn ping() -> Value {
    json!({
        "build_version": BUILD_VERSION,
        "version": env!("CARGO_PKG_VERSION"),
        "pid": process::id(),
        "features": FEATURES,
    })
}
