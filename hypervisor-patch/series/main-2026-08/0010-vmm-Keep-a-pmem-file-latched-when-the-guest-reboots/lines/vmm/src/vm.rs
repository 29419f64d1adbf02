@ 1
+use pmem_flush::FlushEngine;
@ 2
+    /// The flush engines of all pmem devices, by id.
+    pub fn pmem_engines(&self) -> HashMap<String, FlushEngine> {
+        self.device_manager.lock().unwrap().pmem_engines()
+    }
+
+    /// Latch the pmem devices that are by now, of those the guest had before its
+    /// reboot.
+    pub fn inherit_pmem_latches(&self, earlier: &HashMap<String, FlushEngine>) {
+        self.device_manager
+            .lock()
+            .unwrap()
+            .inherit_pmem_latches(earlier);
+    }
+
