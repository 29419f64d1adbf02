@ 1
+    /// Check that nobody has written to the file since the snapshot, if one was
+    /// taken since the device last ran. Meant to be called with the file locked.
+    pub fn check_unchanged(&self) -> io::Result<()> {
+        let Some(expected) = self.engine.save().stamp else {
+            return Ok(());
+        };
+        expected
+            .check(&FileStamp::of(&self.disk)?, self.flush.sync, false)
+            .map_err(io::Error::other)
+    }
+
