@ 1
+        let (config, latches) = {
@ 2
+            // A file that could not be synced has not got better by a reboot.
+            let latches = vm.pmem_latches();
@ 3
+            (config, latches)
@ 4
+        vm.set_pmem_latches(&latches);
+
