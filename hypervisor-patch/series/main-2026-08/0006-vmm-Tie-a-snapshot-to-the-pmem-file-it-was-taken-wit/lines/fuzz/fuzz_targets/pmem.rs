@ 1
+        Arc::default(),
