// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A virtio-pmem device (virtio 1.4, 5.19): the flush engine behind a transport, with its
//! file in the guest's address space.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "fault")]
use pmem_flush::WorkerSeccomp;
use pmem_flush::{
    Activation, EngineConfig, EngineState, Event, FileStamp, FlushEngine, Identity, Observer,
    SyncBackend, SyncMode, unallocated_bytes,
};
use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ids::VIRTIO_ID_PMEM;
use virtio_queue::Queue;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

#[cfg(feature = "fault")]
use super::character::{Due, Fragile, Reform, has};
use super::line::Line;
#[cfg(feature = "fault")]
use super::lying_sync::LyingSync;
use super::mapping::Mapping;
use super::mmio::Device;
use super::pmem_thread::PmemThread;
#[cfg(feature = "fault")]
use super::serial::Serial;
use crate::config::PmemConfig;
#[cfg(feature = "fault")]
use crate::config::{Fault, Flaw};
use crate::events::EventSink;
use crate::vm::VmError;

/// VIRTIO_PMEM_F_SHMEM_REGION: the guest addresses are in shared memory region 0.
const SHMEM_REGION: u64 = 1;
/// That region's id.
const REGION: u32 = 0;

/// What a snapshot keeps of a device, besides its transport.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PmemState {
    /// The device's id.
    pub id: String,
    /// Where the guest has it.
    pub base: u64,
    /// Bytes.
    pub size: u64,
    /// The engine.
    engine: EngineState,
}

/// One device.
pub struct Pmem {
    base: u64,
    drain_timeout: Duration,
    // Ends before the engine: its queue is one of the engine's handles.
    thread: PmemThread,
    engine: FlushEngine,
    events: Arc<dyn EventSink>,
    /// Works the queue in the engine's place.
    #[cfg(feature = "fault")]
    serial: Option<Arc<Serial>>,
    ram: Arc<GuestMemoryMmap>,
    mapping: Arc<Mapping>,
    #[cfg(feature = "fault")]
    fragile: bool,
    #[cfg(feature = "fault")]
    due: Due,
    #[cfg(feature = "fault")]
    reform: Reform,
}

impl Pmem {
    /// Makes the device of `config` at the guest address `base`, as it is after power-on or
    /// as it was saved.
    ///
    /// # Errors
    /// Its file does not fit, is in use, or has moved on since the snapshot (unless
    /// `allow_stale`); or the host has no thread left.
    pub fn new(
        config: &PmemConfig,
        mapping: Mapping,
        base: u64,
        ram: &GuestMemoryMmap,
        events: &Arc<dyn EventSink>,
        saved: Option<(&PmemState, bool)>,
    ) -> Result<Self, VmError> {
        let fail = |what: String| file_error(config, what);
        match unallocated_bytes(mapping.file()) {
            Ok(0) => {}
            Ok(bytes) if !config.discard_writes => log::warn!(
                "--pmem id={},file={}: {bytes} bytes have no block on the disk; a write there \
                 ends the guest when the disk is full (fallocate the file to be safe)",
                config.id,
                config.file.display()
            ),
            Ok(_) => {}
            Err(e) => log::warn!("--pmem id={}: its holes cannot be counted: {e}", config.id),
        }

        let file = mapping
            .file()
            .try_clone()
            .map_err(|e| fail(format!("cannot be opened again: {e}")))?;
        #[cfg(feature = "fault")]
        if let Some(lie) = config.fault.as_ref().and_then(Fault::sync) {
            let sync = LyingSync::new(file, lie)
                .map_err(|e| fail(format!("cannot be lied about: {e}")))?;
            return Self::with_backend(config, mapping, Arc::new(sync), base, ram, events, saved);
        }
        Self::with_backend(config, mapping, Arc::new(file), base, ram, events, saved)
    }

    /// The same with another storage than the file itself.
    fn with_backend(
        config: &PmemConfig,
        mapping: Mapping,
        backend: Arc<dyn SyncBackend>,
        base: u64,
        ram: &GuestMemoryMmap,
        events: &Arc<dyn EventSink>,
        saved: Option<(&PmemState, bool)>,
    ) -> Result<Self, VmError> {
        let fail = |what: String| file_error(config, what);
        let observer: Arc<dyn Observer> = Arc::new(ToSink(events.clone()));
        let mut engine_config = engine_config(config, false);
        engine_config.private = config.discard_writes.then(|| mapping.private());
        #[cfg(feature = "fault")]
        let (due, reform) = (Due::new(config), Reform::new(config, &backend, &observer));
        #[cfg(feature = "fault")]
        let kicked = {
            let due = due.clone();
            Box::new(move || due.kicked())
        };
        #[cfg(not(feature = "fault"))]
        let kicked = Box::new(|| true);
        let engine = match saved {
            None => FlushEngine::new(engine_config, backend, observer),
            Some((state, allow_stale)) => {
                let now = FileStamp::of(mapping.file())
                    .map_err(|e| fail(format!("its times cannot be read: {e}")))?;
                match state.engine.stamp {
                    Some(then) => then
                        .check(&now, engine_config.sync, allow_stale)
                        .map_err(|e| fail(e.to_string()))?,
                    None if allow_stale => {}
                    None => {
                        return Err(fail(
                            "perhaps a stale backing file: the snapshot was taken without a \
                             sync of it"
                                .into(),
                        ));
                    }
                }
                FlushEngine::restore(engine_config, backend, observer, &state.engine)
            }
        }
        .map_err(|e| engine_error(&config.id, &e))?;
        if let Some(cause) = &config.latch {
            engine.set_latch(cause);
        }

        Ok(Self {
            base,
            drain_timeout: Duration::from_secs(config.drain_timeout),
            thread: PmemThread::start(&config.id, kicked)?,
            engine,
            events: events.clone(),
            #[cfg(feature = "fault")]
            serial: serial(config, &mapping)?,
            ram: Arc::new(ram.clone()),
            mapping: Arc::new(mapping),
            #[cfg(feature = "fault")]
            fragile: has(config, Flaw::Fragile),
            #[cfg(feature = "fault")]
            due,
            #[cfg(feature = "fault")]
            reform,
        })
    }

    /// The engine, for pause, snapshot and counters.
    pub fn engine(&self) -> &FlushEngine {
        &self.engine
    }

    /// By name.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        #[cfg(feature = "fault")]
        if let Some(serial) = &self.serial {
            return serial.counters();
        }
        self.engine.counters().named().into_iter().collect()
    }

    /// The vCPUs are parked, the engines are about to drain.
    pub fn pause(&self) {
        #[cfg(feature = "fault")]
        if let Some(serial) = &self.serial {
            serial.pause();
        }
    }

    /// The vCPUs are about to run.
    pub fn resume(&self) {
        #[cfg(feature = "fault")]
        if let Some(serial) = &self.serial {
            serial.resume();
        }
        self.engine.resume();
    }

    /// How long a drain may take.
    pub fn drain_timeout(&self) -> Duration {
        self.drain_timeout
    }

    /// The device's memory.
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// Where the guest has it.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The state for a snapshot: from a quiesced device, after its file sync.
    pub fn save(&self) -> PmemState {
        PmemState {
            id: self.engine.id().to_owned(),
            base: self.base,
            size: self.mapping.size(),
            engine: self.engine.save(),
        }
    }
}

impl Device for Pmem {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_PMEM
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_F_VERSION_1 | SHMEM_REGION
    }

    /// `start` and `size`, zero for a driver that asks for the shared memory region (5.19.4).
    fn config(&self, features: u64) -> Vec<u8> {
        let (start, size) = if features & SHMEM_REGION == 0 {
            (self.base, self.mapping.size())
        } else {
            (0, 0)
        };
        [start.to_le_bytes(), size.to_le_bytes()].concat()
    }

    fn shared_memory(&self, id: u32) -> Option<(u64, u64)> {
        (id == REGION).then(|| (self.base, self.mapping.size()))
    }

    fn activate(&mut self, queue: Queue, kick: EventFd, line: Arc<Line>) -> Result<(), VmError> {
        #[cfg(feature = "fault")]
        self.due.activated(&line);
        #[cfg(feature = "fault")]
        if let Some(serial) = &self.serial {
            let queue = serial
                .activate(self.ram.clone(), queue, kick, line)
                .map_err(|e| VmError::Host("cannot activate a serial device", e))?;
            self.thread.attach(Box::new(queue));
            return Ok(());
        }
        let queue = self
            .engine
            .activate(Activation {
                memory: self.ram.clone(),
                queue,
                queue_evt: kick,
                translate: Identity,
                signal: line.clone(),
            })
            .map_err(|e| engine_error(self.engine.id(), &e))?;
        #[cfg(feature = "fault")]
        if self.fragile {
            self.thread.attach(Box::new(Fragile::new(queue, line)));
            return Ok(());
        }
        self.thread.attach(Box::new(queue));
        Ok(())
    }

    fn reset(&mut self) {
        self.engine.reset();
        self.thread.detach();
        #[cfg(feature = "fault")]
        self.reform.reset(&mut self.engine);
        // As cloud-hypervisor calls it. A guest that falls asleep shows itself by this.
        self.events
            .event("virtio-device", "reset", &[("id", self.engine.id())]);
    }
}

/// An error of the engine, with its causes.
pub fn engine_error(id: &str, error: &dyn Error) -> VmError {
    let mut what = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        what = format!("{what}: {error}");
        cause = error.source();
    }
    VmError::Pmem {
        id: id.to_owned(),
        what,
    }
}

/// Takes the engine's events to the event monitor.
struct ToSink(Arc<dyn EventSink>);

impl Observer for ToSink {
    fn event(&self, id: &str, event: &Event) {
        let own = event.properties();
        let mut properties = vec![("id", id)];
        properties.extend(own.iter().map(|(name, value)| (*name, value.as_str())));
        self.0.event("virtio-device", event.name(), &properties);
    }
}

/// What is wrong with a device's backing file, by the device's name.
fn file_error(config: &PmemConfig, what: String) -> VmError {
    VmError::PmemFile {
        id: config.id.clone(),
        file: config.file.clone(),
        what,
        source: None,
    }
}

#[cfg(feature = "fault")]
fn serial(config: &PmemConfig, mapping: &Mapping) -> Result<Option<Arc<Serial>>, VmError> {
    if !config.fault.as_ref().is_some_and(Fault::is_serial) {
        return Ok(None);
    }
    let file = mapping
        .file()
        .try_clone()
        .map_err(|e| file_error(config, format!("cannot be opened again: {e}")))?;
    Ok(Some(Serial::new(file)))
}

/// What the engine is told; `reset` once the driver has reset the device.
#[cfg_attr(not(feature = "fault"), allow(unused_variables))]
pub(super) fn engine_config(config: &PmemConfig, reset: bool) -> EngineConfig {
    let mut engine = EngineConfig::new(&config.id);
    engine.sync = if config.discard_writes {
        SyncMode::Skip
    } else {
        SyncMode::File
    };
    engine.sync_error = config.sync_error;
    #[cfg(feature = "fault")]
    {
        engine.fault = config.fault.as_ref().and_then(|fault| fault.engine(reset));
        if config.fault.as_ref().and_then(Fault::sync).is_some() {
            // It makes calls that no honest worker needs.
            engine.seccomp = WorkerSeccomp::Off;
        }
    }
    engine
}

#[cfg(test)]
mod tests;
