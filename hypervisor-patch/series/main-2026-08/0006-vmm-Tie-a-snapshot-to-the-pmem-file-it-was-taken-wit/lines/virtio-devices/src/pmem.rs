@ 1
+use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
@ 2
+use log::{error, info, warn};
@ 3
+    Activation, DEFAULT_DRAIN_TIMEOUT, EngineConfig, EngineState, Event, FileLock, FileStamp,
+    FlushEngine, FlushQueue, LockError, LockKind, Observer, Signal, SyncErrorPolicy, SyncMode,
+    Translate, WorkerSeccomp,
@ 4
+/// Keep other writers off a device's file, and, if the guest writes to it, other
+/// readers too. None on a filesystem that has no locks: there, as for every
+/// device before there were any, it is up to the user.
+pub fn lock_pmem_file(
+    id: &str,
+    file: &File,
+    sync: SyncMode,
+) -> result::Result<Option<FileLock>, LockError> {
+    let kind = match sync {
+        SyncMode::File => LockKind::Exclusive,
+        SyncMode::Skip => LockKind::Shared,
+    };
+    match FileLock::acquire(file, kind) {
+        Err(LockError::Io(e)) => {
+            warn!("{id}: cannot lock the file, a second VM could use it: {e}");
+            Ok(None)
+        }
+        locked => locked.map(Some),
+    }
+}
+
@ 5
+    flush: PmemFlushOptions,
@ 6
+    /// Set from prepare_snapshot() to the snapshot() after it.
+    snapshot_prepared: bool,
+    disk: Arc<File>,
+    lock: Option<FileLock>,
+    /// What the file must be for a restored device to go on.
+    restored_stamp: Option<FileStamp>,
+    /// Set while the user wants a snapshot even of a file that cannot be synced.
+    allow_unsynced: Arc<AtomicBool>,
@ 7
+        allow_unsynced: Arc<AtomicBool>,
@ 8
+        let restored_stamp = state.as_ref().and_then(|state| state.engine.stamp);
+        let backend = disk.clone();
@ 9
+                    FlushEngine::restore(engine_config, backend, events, &state.engine),
@ 10
+                    FlushEngine::new(engine_config, backend, events),
@ 11
+            flush,
@ 12
+            snapshot_prepared: false,
+            disk,
+            lock: None,
+            restored_stamp,
+            allow_unsynced,
@ 13
+    /// Lock the file, if it is not locked already. See lock_pmem_file().
+    pub fn try_lock_file(&mut self) -> result::Result<(), LockError> {
+        if self.lock.is_none() {
+            self.lock = lock_pmem_file(&self.id, &self.disk, self.flush.sync)?;
+        }
+        Ok(())
+    }
+
+    /// Keep a lock that was taken before there was a device.
+    pub fn hold_file_lock(&mut self, lock: Option<FileLock>) {
+        self.lock = lock;
+    }
+
+    /// Let others have the file.
+    pub fn unlock_file(&mut self) {
+        self.lock = None;
+    }
+
+    /// Check that a restored device's file is the one its snapshot was taken
+    /// with. Meant to be called with the file locked.
+    pub fn check_file(&self, allow_stale: bool) -> io::Result<()> {
+        let Some(expected) = self.restored_stamp else {
+            return Ok(());
+        };
+        expected
+            .check(&FileStamp::of(&self.disk)?, self.flush.sync, allow_stale)
+            .map_err(io::Error::other)
+    }
+
+    /// Begin the snapshot's sync of the file. All devices are parked: nothing
+    /// writes to the memory any more, so it makes the file agree with the
+    /// snapshot.
+    fn begin_file_sync(&self, deadline: Instant) -> result::Result<(), pmem_flush::Error> {
+        let allow_unsynced = self.allow_unsynced.load(Ordering::SeqCst);
+        self.engine.begin_file_sync(deadline, allow_unsynced)
+    }
+
@ 14
+        self.engine
+            .begin_drain(Instant::now() + self.flush.drain_timeout);
@ 15
+            self.engine
+                .begin_drain(Instant::now() + self.flush.drain_timeout);
@ 16
+        self.snapshot_prepared = false;
@ 17
+    fn prepare_snapshot(&mut self) {
+        let deadline = Instant::now() + self.flush.drain_timeout;
+        // A device that was added to a paused VM has not been paused.
+        self.engine.begin_drain(deadline);
+        // An error is reported by snapshot(), which begins again then.
+        self.snapshot_prepared = self.begin_file_sync(deadline).is_ok();
+    }
+
@ 18
+        let begun = if mem::take(&mut self.snapshot_prepared) {
+            Ok(())
+        } else {
+            let deadline = Instant::now() + self.flush.drain_timeout;
+            self.engine.begin_drain(deadline);
+            self.engine
+                .wait_drain()
+                .and_then(|()| self.begin_file_sync(deadline))
+        };
+        begun
+            .and_then(|()| self.engine.wait_file_sync())
