@ 1
+        // Tells at a snapshot whether there are writes to discard.
+        let pagemap = Path::new("/proc/self/pagemap");
+        if self.discard_writes && pagemap.exists() {
+            landlock.add_rule_with_access(pagemap, "r")?;
+        }
