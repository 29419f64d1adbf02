@ 1
+            allow_stale: false,
@ 2
+    #[serde(default)]
+    pub allow_stale_pmem: bool,
@ 3
+        zone_updates=<list_of_updates>,allow_stale_pmem=on|off\"
@ 4
+        \n `zone_updates` can be used to update NUMA memory zones. Expects a list of elements in the form `id@host_numa_node` \
+        \n `allow_stale_pmem` restores even if a pmem device's file has changed since the snapshot (disabled by default)";
@ 5
+            .add("zone_updates")
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
@ 13
+                allow_stale_pmem: false,
@ 14
+                allow_stale_pmem: false,
@ 15
+        assert_eq!(
+            RestoreConfig::parse("source_url=/path/to/snapshot,allow_stale_pmem=on")?,
+            RestoreConfig {
+                source_url: PathBuf::from("/path/to/snapshot"),
+                prefault: false,
+                memory_restore_mode: MemoryRestoreMode::Copy,
+                net_fds: None,
+                vfio_fds: None,
+                iommufd_fd: None,
+                resume: false,
+                zone_updates: vec![],
+                allow_stale_pmem: true,
+            }
+        );
@ 16
+            allow_stale_pmem: false,
@ 17
+            allow_stale_pmem: false,
@ 18
+            allow_stale_pmem: false,
@ 19
+            allow_stale_pmem: false,
