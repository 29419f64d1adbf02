@ 1
+    /// Begin what pause() will have to wait for, without waiting for it. Called
+    /// on every component before pause() is called on the first, so that the
+    /// waits overlap. Followed by pause() or cancel_pause().
+    fn prepare_pause(&mut self) {}
+
+    /// Undo prepare_pause() on a component that pause() has not reached, or has
+    /// failed for.
+    fn cancel_pause(&mut self) {}
+
