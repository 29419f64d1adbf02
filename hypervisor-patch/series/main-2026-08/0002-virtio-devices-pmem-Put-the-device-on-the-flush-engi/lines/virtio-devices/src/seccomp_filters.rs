@ 1
+    VirtioPmemFlush,
@ 2
+    // The file is synced by the flush engine's worker. An event's properties are
+    // in a hash map, which has a random seed.
+    vec![(libc::SYS_getrandom, vec![])]
+}
+
+fn virtio_pmem_flush_thread_rules() -> Vec<(i64, Vec<SeccompRule>)> {
+    vec![
+        (libc::SYS_fdatasync, vec![]),
+        (libc::SYS_fstat, vec![]),
+        (libc::SYS_fsync, vec![]),
+        (libc::SYS_getrandom, vec![]),
+        (libc::SYS_lseek, vec![]),
+        (libc::SYS_newfstatat, vec![]),
+        (libc::SYS_restart_syscall, vec![]),
+        (libc::SYS_sched_yield, vec![]),
+        (libc::SYS_statx, vec![]),
+    ]
@ 3
+        Thread::VirtioPmemFlush => virtio_pmem_flush_thread_rules(),
