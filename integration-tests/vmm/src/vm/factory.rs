// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Machines on this host's KVM, as the control loop asks for them.

use std::sync::Arc;

use super::Vm;
use crate::config::VmConfig;
use crate::events::EventSink;
use crate::machine::{Machine, MachineError, MachineFactory};
use crate::snapshot::Snapshot;

/// Makes machines on /dev/kvm.
pub struct KvmFactory;

impl MachineFactory for KvmFactory {
    fn boot(
        &self,
        config: &VmConfig,
        events: &Arc<dyn EventSink>,
    ) -> Result<Box<dyn Machine>, MachineError> {
        Ok(Box::new(Vm::boot(config, events)?))
    }

    fn restore(
        &self,
        snapshot: &Snapshot,
        allow_stale_pmem: bool,
        events: &Arc<dyn EventSink>,
    ) -> Result<Box<dyn Machine>, MachineError> {
        Ok(Box::new(Vm::restore(snapshot, allow_stale_pmem, events)?))
    }
}
