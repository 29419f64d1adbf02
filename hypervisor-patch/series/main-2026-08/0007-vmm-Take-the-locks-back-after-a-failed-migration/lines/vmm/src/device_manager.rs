@ 1
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
@ 2
+        self.try_lock_pmem_files()?;
@ 3
+            let dev = dev.lock().unwrap();
@ 4
