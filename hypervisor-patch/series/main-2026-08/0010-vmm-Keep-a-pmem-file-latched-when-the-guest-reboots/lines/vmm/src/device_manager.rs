@ 1
+use pmem_flush::{LatchCause, LockError, SyncMode};
@ 2
+    /// Why pmem devices are latched, by id.
+    pub fn pmem_latches(&self) -> HashMap<String, LatchCause> {
+        let latch = |dev: &Arc<Mutex<Pmem>>| {
+            let dev = dev.lock().unwrap();
+            Some((dev.id(), dev.latch()?))
+        };
+        self.pmem_devices.iter().filter_map(latch).collect()
+    }
+
+    /// Latch the pmem devices that were, before the guest has rebooted.
+    pub fn set_pmem_latches(&self, latches: &HashMap<String, LatchCause>) {
+        for dev in &self.pmem_devices {
+            let dev = dev.lock().unwrap();
+            if let Some(cause) = latches.get(&dev.id()) {
+                dev.set_latch(cause);
+            }
+        }
+    }
+
