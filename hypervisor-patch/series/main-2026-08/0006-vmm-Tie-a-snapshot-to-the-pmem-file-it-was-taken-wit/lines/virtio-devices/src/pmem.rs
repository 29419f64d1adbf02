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
@ 14
+        self.engine
+            .begin_drain(Instant::now() + self.flush.drain_timeout);
@ 15
+            self.engine
+                .begin_drain(Instant::now() + self.flush.drain_timeout);
@ 16
+            .sync_file(
+                Instant::now() + self.flush.drain_timeout,
+                self.allow_unsynced.load(Ordering::SeqCst),
+            )
