@ 1
+            (
+                vec![
+                    "cloud-hypervisor",
+                    "--kernel",
+                    "/path/to/kernel",
+                    "--pmem",
+                    "file=/path/to/img/1,drain_timeout=5,sync_error=report",
+                ],
+                r#"{
+                    "payload": {"kernel": "/path/to/kernel"},
+                    "pmem": [
+                        {"file": "/path/to/img/1", "drain_timeout": 5, "sync_error": "report"}
+                    ]
+                }"#,
+                true,
+            ),
