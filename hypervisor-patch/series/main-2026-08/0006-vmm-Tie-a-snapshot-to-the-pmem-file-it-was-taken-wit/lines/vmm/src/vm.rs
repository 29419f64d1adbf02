@ 1
+        self.device_manager
+            .lock()
+            .unwrap()
+            .claim_pmem_files()
+            .map_err(Error::LockingError)?;
@ 2
+        self.device_manager
+            .lock()
+            .unwrap()
+            .claim_pmem_files()
+            .map_err(Error::LockingError)?;
@ 3
+    /// Release all advisory locks held for disk images and pmem files.
@ 4
+        self.device_manager.lock().unwrap().release_pmem_files();
@ 5
+    /// Take a snapshot, if asked to even of pmem files that cannot be synced.
+    pub fn snapshot_with(
+        &mut self,
+        allow_unsynced_pmem: bool,
+    ) -> result::Result<Snapshot, MigratableError> {
+        let device_manager = self.device_manager.clone();
+        let set = |allow| {
+            device_manager
+                .lock()
+                .unwrap()
+                .set_allow_unsynced_pmem(allow);
+        };
+        set(allow_unsynced_pmem);
+        let snapshot = self.snapshot();
+        set(false);
+        snapshot
+    }
+
