@ 1
+    /// Take the snapshot even if a pmem device's file cannot be synced
+    #[serde(default)]
+    pub allow_unsynced_pmem: bool,
@ 2
+    fn vm_snapshot(
+        &mut self,
+        destination_url: &str,
+        allow_unsynced_pmem: bool,
+    ) -> Result<(), VmError>;
@ 3
+                .vm_snapshot(&config.destination_url, config.allow_unsynced_pmem)
