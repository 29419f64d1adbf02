@ 1
+        (libc::SYS_pread64, vec![]),
