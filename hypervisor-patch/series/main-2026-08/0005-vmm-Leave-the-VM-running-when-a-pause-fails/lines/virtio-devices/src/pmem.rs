@ 1
+use std::{io, mem, result};
@ 2
+    /// Set from prepare_pause() to the pause() or cancel_pause() after it.
+    pause_prepared: bool,
@ 3
+            pause_prepared: false,
@ 4
+    fn prepare_pause(&mut self) {
@ 5
+        self.pause_prepared = true;
+    }
+
+    fn cancel_pause(&mut self) {
+        self.pause_prepared = false;
+        self.engine.resume();
+    }
+
+    fn pause(&mut self) -> result::Result<(), MigratableError> {
+        // A drain that prepare_pause() has begun keeps its deadline, even if
+        // that passed while other devices were waited for.
+        if !mem::take(&mut self.pause_prepared) {
+            self.engine.begin_drain(Instant::now() + self.drain_timeout);
+        }
