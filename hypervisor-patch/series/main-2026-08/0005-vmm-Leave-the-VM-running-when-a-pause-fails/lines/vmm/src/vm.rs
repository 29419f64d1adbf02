@ 1
+    /// Stop the vCPUs, then the devices. On error the devices are running
+    /// again, the vCPUs are not.
+    fn pause_components(&mut self) -> result::Result<(), MigratableError> {
+        self.saved_clock = None;
+        self.cpu_manager.lock().unwrap().pause()?;
+
+        // Capture the guest clock now that the vCPUs are quiesced.
+        self.saved_clock = self.capture_guest_clock()?;
+
+        self.device_manager.lock().unwrap().pause()?;
+
+        if let Err(e) = self.vm.pause() {
+            self.device_manager.lock().unwrap().resume()?;
+            return Err(MigratableError::Pause(anyhow!(
+                "Could not pause the VM: {e}"
+            )));
+        }
+
+        Ok(())
+    }
+
+    /// Let the vCPUs run, with the guest clock as it was when they stopped.
+    fn resume_vcpus(&self) -> result::Result<(), MigratableError> {
+        self.restore_guest_clock()?;
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
