@ 1
+    /// The engine, which may outlive the device with a sync that still runs.
+    pub fn engine(&self) -> FlushEngine {
+        self.engine.clone()
+    }
+
+    /// Let flushes fail if a sync has failed on this earlier engine of the file.
+    pub fn inherit_latch(&self, earlier: &FlushEngine) {
+        if let Some(cause) = earlier.latch() {
+            self.engine.set_latch(&cause);
+        }
+    }
+
