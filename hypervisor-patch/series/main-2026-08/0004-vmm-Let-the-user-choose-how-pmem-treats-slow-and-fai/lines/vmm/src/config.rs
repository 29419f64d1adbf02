@ 1
+    /// A pmem device's drain timeout is out of range
+    #[error("pmem drain_timeout of {0} seconds is not within 1 to {MAX_PMEM_DRAIN_TIMEOUT}")]
+    InvalidPmemDrainTimeout(u64),
@ 2
+/// A day, in seconds: longer than anybody waits for a pause.
+const MAX_PMEM_DRAIN_TIMEOUT: u64 = 24 * 60 * 60;
+
@ 3
+    discard_writes=on|off,drain_timeout=<seconds>,sync_error=latch|report,\
+    id=<device_id>,pci_segment=<segment_id>,pci_device_id=<pci_slot>\"";
@ 4
+            .add("drain_timeout")
+            .add("sync_error")
@ 5
+        let drain_timeout = parser
+            .convert("drain_timeout")
+            .map_err(Error::ParsePersistentMemory)?
+            .unwrap_or_else(default_pmemconfig_drain_timeout);
+        let sync_error = parser
+            .convert("sync_error")
+            .map_err(Error::ParsePersistentMemory)?
+            .unwrap_or_default();
+
@ 6
+            drain_timeout,
+            sync_error,
@ 7
+        if !(1..=MAX_PMEM_DRAIN_TIMEOUT).contains(&self.drain_timeout) {
+            return Err(ValidationError::InvalidPmemDrainTimeout(self.drain_timeout));
+        }
+
@ 8
+    use pmem_flush::SyncErrorPolicy;
@ 9
+            drain_timeout: 30,
+            sync_error: SyncErrorPolicy::Latch,
@ 10
+        assert_eq!(
+            PmemConfig::parse("file=/tmp/pmem,size=128M,drain_timeout=5,sync_error=report")?,
+            PmemConfig {
+                drain_timeout: 5,
+                sync_error: SyncErrorPolicy::Report,
+                ..pmem_fixture()
+            }
+        );
+        PmemConfig::parse("file=/tmp/pmem,size=128M,drain_timeout=soon").unwrap_err();
+        PmemConfig::parse("file=/tmp/pmem,size=128M,sync_error=ignore").unwrap_err();
@ 11
+        for drain_timeout in [0, MAX_PMEM_DRAIN_TIMEOUT + 1] {
+            let mut invalid_config = valid_config.clone();
+            invalid_config.pmem = Some(vec![PmemConfig {
+                drain_timeout,
+                ..pmem_fixture()
+            }]);
+            assert_eq!(
+                invalid_config.validate(),
+                Err(ValidationError::InvalidPmemDrainTimeout(drain_timeout))
+            );
+        }
+
