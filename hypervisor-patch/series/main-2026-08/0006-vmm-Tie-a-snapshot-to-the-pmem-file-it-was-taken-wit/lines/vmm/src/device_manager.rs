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
@ 20
+/// The snapshots of all components, by id. Each component is asked for its own,
+/// also after one has failed: what was prepared has to be taken.
+fn snapshot_all(
+    migratables: &[Arc<Mutex<dyn Migratable>>],
+) -> result::Result<Vec<(String, Snapshot)>, MigratableError> {
+    for migratable in migratables {
+        migratable.lock().unwrap().prepare_snapshot();
+    }
+
+    let snapshots: Vec<_> = migratables
+        .iter()
+        .map(|migratable| {
+            let mut migratable = migratable.lock().unwrap();
+            Ok((migratable.id(), migratable.snapshot()?))
+        })
+        .collect();
+    snapshots.into_iter().collect()
+}
+
@ 21
+        for (id, device_snapshot) in snapshot_all(&self.migratables())? {
+            snapshot.add_snapshot(id, device_snapshot);
@ 22
+        answer: fn() -> result::Result<(), MigratableError>,
@ 23
+            (self.answer)()
@ 24
+
+        fn prepare_snapshot(&mut self) {
+            self.record("prepare");
+        }
+
+        fn snapshot(&mut self) -> result::Result<Snapshot, MigratableError> {
+            self.record("snapshot");
+            (self.answer)()?;
+            Ok(Snapshot::default())
+        }
@ 25
+    /// What is asked of components a, b and c by `act`, b answering as told.
+    fn with_three<R>(
@ 26
+        act: impl FnOnce(&[Arc<Mutex<dyn Migratable>>]) -> R,
+    ) -> (R, Vec<String>) {
@ 27
+        let recorder = |name, answer| -> Arc<Mutex<dyn Migratable>> {
@ 28
+                answer,
@ 29
+        let result = act(&[
@ 30
+    fn pause_three(
+        b: fn() -> result::Result<(), MigratableError>,
+    ) -> (result::Result<(), MigratableError>, Vec<String>) {
+        with_three(b, pause_all)
+    }
+
+    #[test]
+    fn test_snapshot_prepares_all_and_takes_what_it_has_prepared() {
+        let (result, calls) = with_three(|| Ok(()), snapshot_all);
+        let ids: Vec<_> = result.unwrap().into_iter().map(|(id, _)| id).collect();
+        assert_eq!(ids, ["a", "b", "c"]);
+        assert_eq!(
+            calls,
+            [
+                "prepare a",
+                "prepare b",
+                "prepare c",
+                "snapshot a",
+                "snapshot b",
+                "snapshot c"
+            ]
+        );
+
+        let (result, failed_calls) = with_three(
+            || Err(MigratableError::Snapshot(anyhow!("the disk is slow"))),
+            snapshot_all,
+        );
+        assert!(matches!(result, Err(MigratableError::Snapshot(_))));
+        assert_eq!(failed_calls, calls);
+    }
+
