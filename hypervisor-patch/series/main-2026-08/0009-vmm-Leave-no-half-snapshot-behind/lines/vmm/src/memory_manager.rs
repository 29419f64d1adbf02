@ 1
+pub(crate) const SNAPSHOT_FILENAME: &str = "memory-ranges";
