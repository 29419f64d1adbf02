@ 1
+use pmem_flush::LatchCause;
@ 2
+    /// Why pmem devices are latched after a failed sync, by id.
+    pub fn pmem_latches(&self) -> HashMap<String, LatchCause> {
+        self.device_manager.lock().unwrap().pmem_latches()
+    }
+
+    /// Latch the pmem devices that were, before the guest has rebooted.
+    pub fn set_pmem_latches(&self, latches: &HashMap<String, LatchCause>) {
+        self.device_manager
+            .lock()
+            .unwrap()
+            .set_pmem_latches(latches);
+    }
+
