@ 1
+        for device in fs::read_dir("/sys/class/block")
+            .into_iter()
+            .flatten()
+            .flatten()
+        {
