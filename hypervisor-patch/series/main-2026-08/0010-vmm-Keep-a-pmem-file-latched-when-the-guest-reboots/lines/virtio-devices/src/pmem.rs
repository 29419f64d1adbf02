@ 1
+    FlushEngine, FlushQueue, LatchCause, LockError, LockKind, Observer, PrivateMapping, Signal,
@ 2
+    /// The first failed sync, if flushes fail because of it.
+    pub fn latch(&self) -> Option<LatchCause> {
+        self.engine.latch()
+    }
+
+    /// Let flushes fail as if a sync had failed with this cause.
+    pub fn set_latch(&self, cause: &LatchCause) {
+        self.engine.set_latch(cause);
+    }
+
