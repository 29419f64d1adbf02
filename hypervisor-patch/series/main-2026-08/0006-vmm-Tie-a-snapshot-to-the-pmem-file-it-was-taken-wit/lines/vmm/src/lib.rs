@ 1
+    fn vm_snapshot(
+        &mut self,
+        destination_url: &str,
+        allow_unsynced_pmem: bool,
+    ) -> result::Result<(), VmError> {
@ 2
+                vm.snapshot_with(allow_unsynced_pmem)
@ 3
+                for pmem_config in vm_config.lock().unwrap().pmem.iter_mut().flatten() {
+                    pmem_config.allow_stale = restore_cfg.allow_stale_pmem;
+                }
+
