@ 1
@ 2
+//! The virtio-pmem device: a file's memory in the guest, and flushes of it.
+//!
+//! What a flush means is the flush engine's business (crate `pmem-flush`). This
+//! module gives it a thread for the queue, interrupts, address translation and
+//! a place in pause, snapshot and restore.
+
+use std::borrow::Cow;
+use std::collections::HashMap;
@ 3
+use std::num::Wrapping;
+use std::os::fd::AsRawFd;
+use std::sync::atomic::{AtomicBool, AtomicU8};
@ 4
+use std::time::{Duration, Instant};
@ 5
+use anyhow::{Context, anyhow};
+use event_monitor::{event, event_log};
+use log::{error, info};
+use pmem_flush::{
+    Activation, DEFAULT_DRAIN_TIMEOUT, EngineConfig, EngineState, Event, FlushEngine, FlushQueue,
+    Observer, Signal, SyncErrorPolicy, SyncMode, Translate, WorkerSeccomp,
+};
@ 6
@ 7
+use vm_memory::{Address, GuestAddress, GuestMemoryAtomic};
@ 8
@ 9
@ 10
+use crate::epoll_helper::{
+    EPOLL_HELPER_EVENT_LAST, EpollHelper, EpollHelperError, EpollHelperHandler,
+};
+use crate::seccomp_filters::{Thread, get_seccomp_filter};
+use crate::{
+    ActivateError, ActivateResult, GuestMemoryMmap, VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1,
+    VirtioCommon, VirtioDevice, VirtioDeviceType, VirtioInterrupt, VirtioInterruptType,
+    mark_device_needs_reset,
+};
@ 11
+/// One request queue. Its size bounds how many flushes one host sync answers.
+const QUEUE_SIZES: &[u16] = &[256];
@ 12
+/// The guest has kicked the queue.
+const QUEUE_EVENT: u16 = EPOLL_HELPER_EVENT_LAST + 1;
+/// A host sync has ended, or the device may run again.
+const WAKE_EVENT: u16 = EPOLL_HELPER_EVENT_LAST + 2;
@ 13
+/// The device's configuration space (virtio 1.4, 5.19.4).
+#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
+struct PmemConfigSpace {
+    /// Guest physical address of the memory.
@ 14
+    /// Its length in bytes.
@ 15
+impl PmemConfigSpace {
+    fn to_bytes(self) -> [u8; 16] {
+        let mut bytes = [0; 16];
+        bytes[..8].copy_from_slice(&self.start.to_le_bytes());
+        bytes[8..].copy_from_slice(&self.size.to_le_bytes());
+        bytes
+    }
@ 16
+/// How a device treats the guest's flushes.
+#[derive(Clone, Copy, Debug, PartialEq, Eq)]
+pub struct PmemFlushOptions {
+    /// Whether what the guest writes gets into the file at all.
+    pub sync: SyncMode,
+    /// What a flush reports after a host sync has failed once.
+    pub sync_error: SyncErrorPolicy,
+    /// How long a pause waits for the running host sync, and a snapshot for its
+    /// own.
+    pub drain_timeout: Duration,
@ 17
+impl Default for PmemFlushOptions {
+    fn default() -> Self {
+        Self {
+            sync: SyncMode::File,
+            sync_error: SyncErrorPolicy::default(),
+            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
+        }
+    }
@ 18
+fn engine_config(
+    id: &str,
+    flush: PmemFlushOptions,
+    seccomp_action: &SeccompAction,
+) -> io::Result<EngineConfig> {
+    let filter =
+        get_seccomp_filter(seccomp_action, Thread::VirtioPmemFlush).map_err(io::Error::other)?;
+    Ok(EngineConfig {
+        sync: flush.sync,
+        sync_error: flush.sync_error,
+        seccomp: WorkerSeccomp::Program(filter),
+        ..EngineConfig::new(id)
+    })
@ 19
+/// The engine's events, in the VMM's event log.
+struct EventLog;
@ 20
+impl Observer for EventLog {
+    fn event(&self, id: &str, event: &Event) {
+        let mut properties = HashMap::from([(Cow::from("id"), Cow::from(id.to_string()))]);
+        for (key, value) in event.properties() {
+            properties.insert(key.into(), value.into());
@ 21
+        event_log("virtio-device", event.name(), Some(&properties));
+    }
+}
@ 22
+/// The way to the guest that the transport has given the device.
+struct PmemSignal {
+    id: String,
+    interrupt_cb: Arc<dyn VirtioInterrupt>,
+    device_status: Arc<AtomicU8>,
+}
@ 23
+impl Signal for PmemSignal {
+    fn used(&self) -> io::Result<()> {
+        self.interrupt_cb.trigger(VirtioInterruptType::Queue(0))
+    }
@ 24
+    fn needs_reset(&self) -> io::Result<()> {
+        mark_device_needs_reset(
+            &self.device_status,
+            self.interrupt_cb.as_ref(),
+            format_args!("{}: inconsistent ring", self.id),
+        );
+        Ok(())
+    }
+}
@ 25
+/// The IOMMU the device is behind.
+struct Iommu(Arc<dyn AccessPlatform>);
@ 26
+impl Translate for Iommu {
+    fn translate(&self, address: GuestAddress, len: u32) -> io::Result<GuestAddress> {
+        self.0
+            .translate_gva(address.raw_value(), len.into())
+            .map(GuestAddress)
@ 27
+    queue: FlushQueue<GuestMemoryAtomic<GuestMemoryMmap>, Option<Iommu>, PmemSignal>,
@ 28
@ 29
@ 30
+        helper.add_event(self.queue.queue_evt().as_raw_fd(), QUEUE_EVENT)?;
+        helper.add_event(self.queue.wake_evt().as_raw_fd(), WAKE_EVENT)?;
+        helper.run(paused, paused_sync, self)
@ 31
+            QUEUE_EVENT => self.queue.on_queue_event(),
+            WAKE_EVENT => self.queue.on_wake_event(),
@ 32
+/// A virtio-pmem device.
@ 33
+    engine: FlushEngine,
+    drain_timeout: Duration,
+    config: PmemConfigSpace,
@ 34
+/// What a snapshot holds of the device.
+#[derive(Deserialize, Serialize)]
@ 35
+    config: PmemConfigSpace,
+    /// Missing in snapshots of a VMM without the flush engine.
+    #[serde(default)]
+    engine: EngineState,
@ 36
+    /// Make a device for the memory that `mapping` describes, whose flushes
+    /// sync `disk`. With a state it is a restored device: paused.
@ 37
+        flush: PmemFlushOptions,
@ 38
+        let engine_config = engine_config(&id, flush, &seccomp_action)?;
+        let (disk, events) = (Arc::new(disk), Arc::new(EventLog));
@ 39
+        let paused = state.is_some();
+        let (engine, avail_features, acked_features, config) = match state {
+            Some(state) => {
+                info!("Restoring virtio-pmem {id}");
+                (
+                    FlushEngine::restore(engine_config, disk, events, &state.engine),
+                    state.avail_features,
+                    state.acked_features,
+                    state.config,
+                )
+            }
+            None => {
+                let mut features = 1u64 << VIRTIO_F_VERSION_1;
+                if access_platform_enabled {
+                    features |= 1u64 << VIRTIO_F_ACCESS_PLATFORM;
+                }
+                let config = PmemConfigSpace {
+                    start: addr.raw_value(),
+                    size: mapping.mapping.size() as u64,
+                };
+                (
+                    FlushEngine::new(engine_config, disk, events),
+                    features,
+                    0,
+                    config,
+                )
@ 40
@ 41
+                // The thread that serves the queue, and whoever pauses it. The
+                // engine's own worker is idle by then.
@ 42
+            engine: engine.map_err(io::Error::other)?,
+            drain_timeout: flush.drain_timeout,
@ 43
+            engine: self.engine.save(),
@ 44
+        self.read_config_from_slice(&self.config.to_bytes(), offset, data);
@ 45
+        let (_, queue, queue_evt) = queues.remove(0);
@ 46
+        let queue = self
+            .engine
+            .activate(Activation {
+                memory: mem,
@ 47
@ 48
+                translate: self.common.access_platform().map(Iommu),
+                signal: PmemSignal {
+                    id: self.id.clone(),
+                    interrupt_cb: interrupt_cb.clone(),
+                    device_status: device_status.clone(),
+                },
+            })
+            .map_err(|e| {
+                error!("{}: cannot activate the flush engine: {e}", self.id);
+                ActivateError::BadActivate
+            })?;
+        let mut handler = PmemEpollHandler {
+            queue,
+            kill_evt,
+            pause_evt,
+        };
@ 49
+        let paused = self.common.paused.clone();
+        let paused_sync = self.common.paused_sync.clone();
+        self.common.spawn_worker(
+            &self.id,
+            &self.seccomp_action,
+            Thread::VirtioPmem,
+            &self.exit_evt,
+            device_status,
+            interrupt_cb,
+            move || handler.run(&paused, paused_sync.as_ref().unwrap()),
+        )
@ 50
+        // The engine lets go of a sync that is still running: nothing below
+        // waits for the storage.
+        self.engine.reset();
@ 51
+    fn counters(&self) -> Option<HashMap<&'static str, Wrapping<u64>>> {
+        let named = self.engine.counters().named();
+        Some(named.map(|(name, value)| (name, Wrapping(value))).into())
+    }
+
@ 52
+        self.engine.begin_drain(Instant::now() + self.drain_timeout);
+        self.engine
+            .wait_drain()
+            .with_context(|| format!("virtio-pmem {}", self.id))
+            .map_err(MigratableError::Pause)?;
+
+        // Every request that was popped is answered. Park the thread.
@ 53
+        self.engine.resume();
@ 54
+        // All devices are parked: nothing writes to the memory any more, so
+        // this sync makes the file agree with the snapshot.
+        self.engine
+            .sync_file(Instant::now() + self.drain_timeout, false)
+            .with_context(|| format!("virtio-pmem {}", self.id))
+            .map_err(MigratableError::Snapshot)?;
