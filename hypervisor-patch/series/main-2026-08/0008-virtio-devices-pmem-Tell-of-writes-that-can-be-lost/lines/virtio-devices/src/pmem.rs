@ 1
+    FlushEngine, FlushQueue, LockError, LockKind, Observer, PrivateMapping, Signal,
+    SyncErrorPolicy, SyncMode, Translate, WorkerSeccomp, unallocated_bytes,
@ 2
+    disk: &Arc<File>,
+    mapping: &UserspaceMapping,
@ 3
+        private: (flush.sync == SyncMode::Skip).then(|| PrivateMapping {
+            memory: mapping.mapping.clone(),
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
+    /// snapshot. If the guest's writes do not get into the file, it fails if
+    /// there are any.
