@ 1
+use pmem_flush::{FlushEngine, LockError, SyncMode};
@ 2
+    /// The flush engines of all pmem devices, by id.
+    pub fn pmem_engines(&self) -> HashMap<String, FlushEngine> {
+        let engine = |dev: &Arc<Mutex<Pmem>>| {
+            let dev = dev.lock().unwrap();
+            (dev.id(), dev.engine())
+        };
+        self.pmem_devices.iter().map(engine).collect()
+    }
+
+    /// Latch the pmem devices that are by now, of those the guest had before its
+    /// reboot.
+    pub fn inherit_pmem_latches(&self, earlier: &HashMap<String, FlushEngine>) {
+        for dev in &self.pmem_devices {
+            let dev = dev.lock().unwrap();
+            if let Some(engine) = earlier.get(&dev.id()) {
+                dev.inherit_latch(engine);
+            }
+        }
+    }
+
