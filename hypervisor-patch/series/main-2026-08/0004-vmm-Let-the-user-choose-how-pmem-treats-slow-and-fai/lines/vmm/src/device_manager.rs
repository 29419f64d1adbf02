@ 1
+use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
@ 2
+use std::time::{Duration, Instant};
@ 3
+    #[error("Cannot open persistent memory file {}", .1.display())]
+    PmemFileOpen(#[source] io::Error, PathBuf),
+
+    /// The persistent memory of a directory's temporary file ended with the VM
+    #[error("Cannot restore persistent memory from directory {}: give the file itself", .0.display())]
+    PmemRestoreDirectory(PathBuf),
@ 4
+    /// The persistent memory file is smaller than the memory it has to hold
+    #[error(
+        "Persistent memory file {} has {found} bytes, the snapshot needs {needed}", file.display()
+    )]
+    PmemRestoreFileTooSmall {
+        file: PathBuf,
+        found: u64,
+        needed: u64,
+    },
+
@ 5
+        if let Some((_, needed)) = region_range {
+            check_restored_pmem_file(&pmem_cfg.file, needed)?;
+        }
+
@ 6
+            .write(!pmem_cfg.discard_writes || set_len)
@ 7
+            .map_err(|e| DeviceManagerError::PmemFileOpen(e, pmem_cfg.file.clone()))?;
@ 8
+                    sync_error: pmem_cfg.sync_error,
+                    drain_timeout: Duration::from_secs(pmem_cfg.drain_timeout),
@ 9
+/// Check that the memory of a restored pmem device, `needed` bytes, can come from
+/// the file that is given for it.
+fn check_restored_pmem_file(path: &path::Path, needed: u64) -> DeviceManagerResult<()> {
+    let metadata = path
+        .metadata()
+        .map_err(|e| DeviceManagerError::PmemFileOpen(e, path.to_path_buf()))?;
+    if metadata.is_dir() {
+        return Err(DeviceManagerError::PmemRestoreDirectory(path.to_path_buf()));
+    }
+
+    let found = if metadata.is_file() {
+        metadata.len()
+    } else if metadata.file_type().is_block_device() {
+        // Its length is no part of its metadata.
+        File::open(path)
+            .and_then(|mut device| device.seek(SeekFrom::End(0)))
+            .map_err(|e| DeviceManagerError::PmemFileOpen(e, path.to_path_buf()))?
+    } else {
+        // Only its driver knows how much of a character device can be mapped.
+        return Ok(());
+    };
+    if found < needed {
+        return Err(DeviceManagerError::PmemRestoreFileTooSmall {
+            file: path.to_path_buf(),
+            found,
+            needed,
+        });
+    }
+
+    Ok(())
+}
+
@ 10
+    fn test_restored_pmem_file_must_hold_the_memory() {
+        let dir = tempfile::tempdir().unwrap();
+        let path = dir.path().join("pmem");
+        let file = File::create(&path).unwrap();
+        file.set_len(4095).unwrap();
+
+        let error = check_restored_pmem_file(&path, 4096).unwrap_err();
+        assert!(matches!(
+            error,
+            DeviceManagerError::PmemRestoreFileTooSmall {
+                found: 4095,
+                needed: 4096,
+                ..
+            }
+        ));
+        assert!(error.to_string().contains(path.to_str().unwrap()));
+
+        file.set_len(4096).unwrap();
+        check_restored_pmem_file(&path, 4096).unwrap();
+    }
+
+    #[test]
+    fn test_restored_pmem_file_must_be_there() {
+        let dir = tempfile::tempdir().unwrap();
+
+        assert!(matches!(
+            check_restored_pmem_file(&dir.path().join("pmem"), 4096),
+            Err(DeviceManagerError::PmemFileOpen(..))
+        ));
+        assert!(matches!(
+            check_restored_pmem_file(dir.path(), 4096),
+            Err(DeviceManagerError::PmemRestoreDirectory(_))
+        ));
+    }
+
+    #[test]
+    fn test_restored_pmem_block_device_must_hold_the_memory() {
+        // Tried with every one that may be read here.
+        for device in fs::read_dir("/sys/class/block")
+            .into_iter()
+            .flatten()
+            .flatten()
+        {
+            let node = path::Path::new("/dev").join(device.file_name());
+            let sectors = fs::read_to_string(device.path().join("size")).unwrap_or_default();
+            let size = sectors.trim().parse().unwrap_or(0) * 512;
+            if size == 0 || File::open(&node).is_err() {
+                continue;
+            }
+
+            check_restored_pmem_file(&node, size).unwrap();
+            assert!(matches!(
+                check_restored_pmem_file(&node, size + 1),
+                Err(DeviceManagerError::PmemRestoreFileTooSmall { found, .. }) if found == size
+            ));
+        }
+    }
+
+    #[test]
