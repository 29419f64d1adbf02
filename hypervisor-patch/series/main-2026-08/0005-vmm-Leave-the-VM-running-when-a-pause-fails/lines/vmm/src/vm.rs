@ 1
+    /// Stop the vCPUs, then the devices. On error the devices are running
+    /// again, the vCPUs are not.
+    fn pause_components(&mut self) -> result::Result<(), MigratableError> {
+        let (cpus, devices) = (self.cpu_manager.clone(), self.device_manager.clone());
+        self.saved_clock = None;
+        cpus.lock().unwrap().pause()?;
+
+        // The guest's time stands still from here on.
+        let clock = self.capture_guest_clock()?;
+        self.saved_clock = clock;
+
+        devices.lock().unwrap().pause()?;
+
+        self.vm.pause().or_else(|e| {
+            devices.lock().unwrap().resume()?;
+            let error = anyhow!(e).context("The hypervisor has not paused the VM");
+            Err(MigratableError::Pause(error))
+        })
+    }
+
+    /// Let the vCPUs run, with the guest clock as it was when they stopped.
+    fn resume_vcpus(&self) -> result::Result<(), MigratableError> {
+        // A clock that has gone on is better than vCPUs that do not.
+        if let Err(e) = self.restore_guest_clock() {
+            error!("The guest's clock has gone on during a failed pause: {e:?}");
+        }
+        self.cpu_manager.lock().unwrap().resume()
+    }
+
@ 2
+        if let Err(e) = self.pause_components() {
+            // The state stays what it was, so the VM has to run on: whoever
+            // asked for the pause may repair the cause and try again.
+            if let Err(e) = self.resume_vcpus() {
+                error!("Could not resume the vCPUs after a failed pause: {e:?}");
+            }
+            event!("vm", "pause-failed");
+            return Err(e);
+        }
