@ 1
+use std::sync::atomic::{AtomicBool, Ordering};
@ 2
+use std::time::Duration;
@ 3
+use std::time::Instant;
@ 4
+use pmem_flush::{LockError, SyncMode};
@ 5
+    AccessPlatformMapping, Block, Endpoint, IommuMapping, Pmem, PmemFlushOptions, VdpaDmaMapping,
+    VirtioMemMappingSource, balloon, lock_pmem_file, mem, net, transport, vdpa, vhost_user, vsock,
@ 6
+    /// Cannot lock a persistent memory file
+    #[error("Cannot lock the file of pmem device {1}")]
+    PmemFileLock(#[source] LockError, String),
+
+    /// A persistent memory file is not the one the snapshot was taken with
+    #[error("Cannot restore pmem device {1} (restore with allow_stale_pmem=on to do so)")]
+    PmemFileChanged(#[source] io::Error, String),
+
@ 7
+    /// All pmem devices. Needed for locking and checking their files.
+    pmem_devices: Vec<Arc<Mutex<Pmem>>>,
+
+    /// Set while a snapshot is wanted even of pmem files that cannot be synced.
+    allow_unsynced_pmem: Arc<AtomicBool>,
+
@ 8
+            pmem_devices: vec![],
+            allow_unsynced_pmem: Arc::default(),
@ 9
+    /// Tries to lock the files of all pmem devices, and checks that those of
+    /// restored devices are what their snapshot was taken with.
+    ///
+    /// To be called when the VM boots or is restored, as try_lock_disks().
+    pub fn claim_pmem_files(&self) -> DeviceManagerResult<()> {
+        for dev in &self.pmem_devices {
+            let mut dev = dev.lock().unwrap();
+            let id = dev.id();
+            dev.try_lock_file()
+                .map_err(|e| DeviceManagerError::PmemFileLock(e, id.clone()))?;
+            let allow_stale = self
+                .config
+                .lock()
+                .unwrap()
+                .pmem
+                .iter()
+                .flatten()
+                .any(|cfg| cfg.pci_common.id.as_deref() == Some(&id) && cfg.allow_stale);
+            dev.check_file(allow_stale)
+                .map_err(|e| DeviceManagerError::PmemFileChanged(e, id))?;
+        }
+        Ok(())
+    }
+
+    /// Unlock the file of a pmem device that the guest does not have any more, or
+    /// never got.
+    fn let_go_of_pmem_file(&mut self, device: &Arc<Mutex<dyn virtio_devices::VirtioDevice>>) {
+        self.pmem_devices.retain(|pmem| {
+            let pmem_dyn = Arc::clone(pmem) as Arc<Mutex<dyn virtio_devices::VirtioDevice>>;
+            let gone = Arc::ptr_eq(&pmem_dyn, device);
+            if gone {
+                pmem.lock().unwrap().unlock_file();
+            }
+            !gone
+        });
+    }
+
+    /// Unlock the files of all pmem devices, as release_disk_locks().
+    pub fn release_pmem_files(&self) {
+        for dev in &self.pmem_devices {
+            dev.lock().unwrap().unlock_file();
+        }
+    }
+
+    /// Whether snapshots are to be taken even of pmem files that cannot be
+    /// synced.
+    pub fn set_allow_unsynced_pmem(&self, allow: bool) {
+        self.allow_unsynced_pmem.store(allow, Ordering::SeqCst);
+    }
+
@ 10
+        is_hotplug: bool,
@ 11
+        let sync = if pmem_cfg.discard_writes {
+            SyncMode::Skip
+        } else {
+            SyncMode::File
+        };
+
+        // As a disk image, the file is locked here only for hotplugging.
+        let lock = if is_hotplug {
+            lock_pmem_file(&id, &file, sync)
+                .map_err(|e| DeviceManagerError::PmemFileLock(e, id.clone()))?
+        } else {
+            None
+        };
+
@ 12
+            Pmem::new(
@ 13
+                PmemFlushOptions {
+                    sync,
@ 14
+                self.allow_unsynced_pmem.clone(),
@ 15
+        virtio_pmem_device.lock().unwrap().hold_file_lock(lock);
+        self.pmem_devices.push(virtio_pmem_device.clone());
+
@ 16
+                let device = self.make_virtio_pmem_device(pmem_cfg, false, snapshot)?;
@ 17
+            // The guest has no access to the file any more: others may have it.
+            self.let_go_of_pmem_file(&virtio_device);
@ 18
+        let device = self.make_virtio_pmem_device(pmem_cfg, true, None)?;
+        let virtio_device = device.virtio_device.clone();
@ 19
+            .inspect_err(|_| self.let_go_of_pmem_file(&virtio_device))
