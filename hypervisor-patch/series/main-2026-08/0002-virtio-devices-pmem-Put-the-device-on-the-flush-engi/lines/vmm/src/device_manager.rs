@ 1
+use pmem_flush::SyncMode;
@ 2
+                virtio_devices::PmemFlushOptions {
+                    sync: if pmem_cfg.discard_writes {
+                        SyncMode::Skip
+                    } else {
+                        SyncMode::File
+                    },
+                    ..Default::default()
+                },
