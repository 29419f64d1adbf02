@ 1
+/// Resume components after a failed pause. Each one gets its chance: an error
+/// is reported, and leaves the others running.
+fn resume_after_failed_pause(migratables: &[Arc<Mutex<dyn Migratable>>]) {
+    for migratable in migratables {
+        if let Err(e) = migratable.lock().unwrap().resume() {
+            error!("Could not resume a device after a failed pause: {e:?}");
+        }
+    }
+}
+
+/// Pause all components, or none: when one fails, it and those before it run
+/// again. The one that failed may have come half of the way.
+fn pause_all(migratables: &[Arc<Mutex<dyn Migratable>>]) -> result::Result<(), MigratableError> {
+    for migratable in migratables {
+        migratable.lock().unwrap().prepare_pause();
+    }
+
+    for (i, migratable) in migratables.iter().enumerate() {
+        let paused = migratable.lock().unwrap().pause();
+        match paused {
+            Ok(()) => {}
+            Err(MigratableError::DeviceDisconnected(gone)) => {
+                warn!("{gone} is disconnected: there is nothing to pause");
+            }
+            Err(e) => {
+                for migratable in &migratables[i..] {
+                    migratable.lock().unwrap().cancel_pause();
@ 2
+                resume_after_failed_pause(&migratables[..=i]);
+                return Err(e);
@ 3
+    }
+
+    Ok(())
+}
+
+impl DeviceManager {
+    /// All components that take part in a pause and a snapshot.
+    fn migratables(&self) -> Vec<Arc<Mutex<dyn Migratable>>> {
+        let tree = self.device_tree.lock().unwrap();
+        tree.iter()
+            .filter_map(|(_, node)| node.migratable.clone())
+            .collect()
+    }
+}
+
+impl Pausable for DeviceManager {
+    fn pause(&mut self) -> result::Result<(), MigratableError> {
+        let migratables = self.migratables();
+        pause_all(&migratables)?;
+
@ 4
+            let paused = self
+                .get_interrupt_controller()
@ 5
+                .pause();
+            if let Err(e) = paused {
+                resume_after_failed_pause(&migratables);
+                return Err(e);
+            }
@ 6
+    /// A component that writes down what it is asked, and may refuse to pause.
+    struct Recorder {
+        name: &'static str,
+        pause: fn() -> result::Result<(), MigratableError>,
+        calls: Arc<Mutex<Vec<String>>>,
+    }
+
+    impl Recorder {
+        fn record(&self, call: &str) {
+            self.calls
+                .lock()
+                .unwrap()
+                .push(format!("{call} {}", self.name));
+        }
+    }
+
+    impl Pausable for Recorder {
+        fn prepare_pause(&mut self) {
+            self.record("prepare");
+        }
+
+        fn cancel_pause(&mut self) {
+            self.record("cancel");
+        }
+
+        fn pause(&mut self) -> result::Result<(), MigratableError> {
+            self.record("pause");
+            (self.pause)()
+        }
+
+        fn resume(&mut self) -> result::Result<(), MigratableError> {
+            self.record("resume");
+            Ok(())
+        }
+    }
+
+    impl Snapshottable for Recorder {
+        fn id(&self) -> String {
+            self.name.to_string()
+        }
+    }
+
+    impl Transportable for Recorder {}
+    impl Migratable for Recorder {}
+
+    /// What pause_all() asked of components a, b and c, b answering as told.
+    fn pause_three(
+        b: fn() -> result::Result<(), MigratableError>,
+    ) -> (result::Result<(), MigratableError>, Vec<String>) {
+        let calls = Arc::new(Mutex::new(Vec::new()));
+        let recorder = |name, pause| -> Arc<Mutex<dyn Migratable>> {
+            Arc::new(Mutex::new(Recorder {
+                name,
+                pause,
+                calls: calls.clone(),
+            }))
+        };
+        let result = pause_all(&[
+            recorder("a", || Ok(())),
+            recorder("b", b),
+            recorder("c", || Ok(())),
+        ]);
+        let calls = calls.lock().unwrap().clone();
+        (result, calls)
+    }
+
+    #[test]
+    fn test_pause_prepares_all_before_it_waits_for_any() {
+        let (result, calls) = pause_three(|| Ok(()));
+
+        result.unwrap();
+        assert_eq!(
+            calls,
+            [
+                "prepare a",
+                "prepare b",
+                "prepare c",
+                "pause a",
+                "pause b",
+                "pause c"
+            ]
+        );
+    }
+
+    #[test]
+    fn test_failed_pause_leaves_every_device_running() {
+        let (result, calls) =
+            pause_three(|| Err(MigratableError::Pause(anyhow!("the disk is slow"))));
+
+        assert!(matches!(result, Err(MigratableError::Pause(_))));
+        assert_eq!(
+            calls[3..],
+            [
+                "pause a", "pause b", "cancel b", "cancel c", "resume a", "resume b"
+            ]
+        );
+    }
+
+    #[test]
+    fn test_disconnected_device_does_not_fail_a_pause() {
+        let (result, calls) =
+            pause_three(|| Err(MigratableError::DeviceDisconnected("b".to_string())));
+
+        result.unwrap();
+        assert_eq!(calls[3..], ["pause a", "pause b", "pause c"]);
+    }
+
