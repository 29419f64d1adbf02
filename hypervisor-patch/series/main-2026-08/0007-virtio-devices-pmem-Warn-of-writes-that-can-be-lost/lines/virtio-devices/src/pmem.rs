@ 1
+    Translate, WorkerSeccomp, unallocated_bytes,
@ 2
+        if flush.sync == SyncMode::File
+            && let Ok(holes @ 1..) = unallocated_bytes(&disk)
+        {
+            warn!(
+                "{id}: {holes} bytes of the file are not allocated. If the disk is full when the \
+                 guest first writes there, the VM ends. Allocate them with fallocate(1)."
+            );
+        }
+
@ 3
+        if self.flush.sync == SyncMode::Skip {
+            // They are in anonymous pages of the VMM, which a snapshot does not
+            // hold. Whether there are any is not known here.
+            warn!(
+                "{}: what the guest has written is not in the snapshot (discard_writes=on)",
+                self.id
+            );
+            event!(
+                "virtio-device",
+                "discarded-writes-not-in-snapshot",
+                "id",
+                &self.id
+            );
+        }
+
