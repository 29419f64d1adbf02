@ 1
+            allow_stale: false,
@ 2
+    #[serde(default)]
+    pub allow_stale_pmem: bool,
@ 3
+        net_fds=<list_of_net_ids_with_their_associated_fds>,resume=true|false,allow_stale_pmem=on|off\" \
@ 4
+        \n `resume` controls whether the VM will be directly resumed after restore \
+        \n `allow_stale_pmem` restores even if a pmem device's file has changed since the snapshot (disabled by default)";
@ 5
+            .add("resume")
+            .add("allow_stale_pmem");
@ 6
+        let allow_stale_pmem = parser
+            .convert::<Toggle>("allow_stale_pmem")
+            .map_err(Error::ParseRestore)?
+            .unwrap_or(Toggle(false))
+            .0;
+
@ 7
+            allow_stale_pmem,
@ 8
+            allow_stale: false,
@ 9
+                allow_stale_pmem: false,
@ 10
+                allow_stale_pmem: false,
@ 11
+                allow_stale_pmem: false,
@ 12
+                allow_stale_pmem: false,
+            }
+        );
+        assert_eq!(
+            RestoreConfig::parse("source_url=/path/to/snapshot,allow_stale_pmem=on")?,
+            RestoreConfig {
+                source_url: PathBuf::from("/path/to/snapshot"),
+                prefault: false,
+                memory_restore_mode: MemoryRestoreMode::Copy,
+                net_fds: None,
+                resume: false,
+                allow_stale_pmem: true,
@ 13
+            allow_stale_pmem: false,
@ 14
+            allow_stale_pmem: false,
@ 15
+            allow_stale_pmem: false,
