@ 1
+use pmem_flush::{DEFAULT_DRAIN_TIMEOUT, SyncErrorPolicy};
@ 2
+    /// Seconds that a pause waits for the device's running host sync, and a
+    /// snapshot for its own.
+    #[serde(default = "default_pmemconfig_drain_timeout")]
+    pub drain_timeout: u64,
+    /// What the guest's flushes report once a host sync has failed.
+    #[serde(default)]
+    pub sync_error: SyncErrorPolicy,
+}
+
+pub fn default_pmemconfig_drain_timeout() -> u64 {
+    DEFAULT_DRAIN_TIMEOUT.as_secs()
