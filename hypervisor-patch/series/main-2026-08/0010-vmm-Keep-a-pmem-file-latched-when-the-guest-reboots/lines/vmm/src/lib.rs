@ 1
+        let (config, pmem_engines) = {
@ 2
+            let pmem_engines = vm.pmem_engines();
@ 3
+            (config, pmem_engines)
@ 4
+        // A file that could not be synced has not got better by a reboot. Only now:
+        // a sync that still runs and fails from here on is an error of the files as
+        // the new VM has opened them, too.
+        vm.inherit_pmem_latches(&pmem_engines);
+
