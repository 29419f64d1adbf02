@ 1
+        allow_unsynced_pmem: false,
