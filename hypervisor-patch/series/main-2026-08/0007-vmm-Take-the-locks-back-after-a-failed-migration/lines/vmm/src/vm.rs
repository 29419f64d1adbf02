@ 1
+    // Set while the locks of disk images and pmem files are another VMM's to take.
+    locks_released: bool,
@ 2
+            locks_released: false,
@ 3
+    pub fn release_disk_locks(&mut self) -> Result<()> {
+        self.locks_released = true;
@ 4
+    /// Take back what release_disk_locks() has released, if it has.
+    ///
+    /// Fails if another VMM holds a lock: it may be running this VM. It may also
+    /// have run it and be gone. Then a pmem file can be newer than the memory.
+    pub fn reclaim_disk_locks(&mut self) -> Result<()> {
+        if !self.locks_released {
+            return Ok(());
+        }
+        let locked = {
+            let device_manager = self.device_manager.lock().unwrap();
+            device_manager
+                .try_lock_disks()
+                .and_then(|()| device_manager.try_lock_pmem_files())
+                .and_then(|()| device_manager.check_pmem_files_unchanged())
+        };
+        if let Err(e) = locked {
+            self.release_disk_locks()?;
+            return Err(Error::LockingError(e));
+        }
+        self.locks_released = false;
+        Ok(())
+    }
+
@ 5
+        // After a failed migration the VM may run elsewhere.
+        self.reclaim_disk_locks().map_err(|e| {
+            MigratableError::Resume(anyhow!("Could not lock the VM's files again: {e:?}"))
+        })?;
+
