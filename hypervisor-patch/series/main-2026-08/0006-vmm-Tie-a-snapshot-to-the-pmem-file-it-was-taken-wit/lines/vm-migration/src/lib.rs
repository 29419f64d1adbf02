@ 1
+    /// Begin what snapshot() will have to wait for, without waiting for it. Called
+    /// on every component before snapshot() is called on the first, so that the
+    /// waits overlap. Followed by snapshot().
+    fn prepare_snapshot(&mut self) {}
+
