@ 1
+    /// Restore even if the file has changed since the snapshot. Belongs to one
+    /// restore, so no configuration holds it.
+    #[serde(skip)]
+    pub allow_stale: bool,
