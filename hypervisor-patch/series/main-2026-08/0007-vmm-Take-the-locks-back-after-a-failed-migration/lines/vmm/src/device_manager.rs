@ 1
+    /// Another VM has run on a persistent memory file
+    #[error("The file of pmem device {1} has changed since the VM was paused: it cannot go on")]
+    PmemFileUsed(#[source] io::Error, String),
+
@ 2
+    /// Tries to lock the files of all pmem devices.
+    pub fn try_lock_pmem_files(&self) -> DeviceManagerResult<()> {
+        for dev in &self.pmem_devices {
+            let mut dev = dev.lock().unwrap();
+            dev.try_lock_file()
+                .map_err(|e| DeviceManagerError::PmemFileLock(e, dev.id()))?;
+        }
+        Ok(())
+    }
+
@ 3
+        self.try_lock_pmem_files()?;
@ 4
+            let dev = dev.lock().unwrap();
@ 5
@ 6
+    /// Check that nobody has used the pmem files since the VM was paused for a
+    /// migration.
+    pub fn check_pmem_files_unchanged(&self) -> DeviceManagerResult<()> {
+        for dev in &self.pmem_devices {
+            let dev = dev.lock().unwrap();
+            dev.check_unchanged()
+                .map_err(|e| DeviceManagerError::PmemFileUsed(e, dev.id()))?;
+        }
+        Ok(())
+    }
+
