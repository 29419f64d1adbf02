@ 1
+use crate::migration::unfinished::UnfinishedSnapshot;
@ 2
+        let unfinished = UnfinishedSnapshot::new(destination_url)?;
@ 3
+            .write_all(vm_config.as_bytes())
@ 4
+            .write_all(&vm_state)
@ 5
+        unfinished.finish();
