@ 1
+    FlushEngine, FlushQueue, LockError, LockKind, Observer, PrivateMapping, Signal,
+    SyncErrorPolicy, SyncMode, Translate, WorkerSeccomp, unallocated_bytes,
@ 2
+    disk: &Arc<File>,
+    mapping: &UserspaceMapping,
@ 3
+        private: (flush.sync == SyncMode::Skip).then(|| PrivateMapping {
+            address: mapping.mapping.as_ptr() as usize,
+            len: mapping.mapping.size(),
+            file: disk.clone(),
+        }),
@ 4
@ 5
+        let engine_config = engine_config(&id, flush, &disk, &mapping, &seccomp_action)?;
+        if flush.sync == SyncMode::File
+            && let Ok(holes @ 1..) = unallocated_bytes(&disk)
+        {
+            warn!(
+                "{id}: {holes} bytes of the file are not allocated. If the disk is full when the \
+                 guest first writes there, it cannot go on. Allocate them with fallocate(1)."
+            );
+        }
@ 6
+        let deadline = Instant::now() + self.flush.drain_timeout;
+        // A device that was added to a paused VM has not been paused.
+        self.engine.begin_drain(deadline);
@ 7
+        // this sync makes the file agree with the snapshot. If the guest's
+        // writes do not get into the file, it fails if there are any.
@ 8
+            .wait_drain()
+            .and_then(|()| {
+                self.engine
+                    .sync_file(deadline, self.allow_unsynced.load(Ordering::SeqCst))
+            })
