@ 1
+            // The locks may be another VMM's by now, which may run the VM.
+            if let Err(e) = vm.reclaim_disk_locks() {
+                error!(
+                    "VM stays paused after the failed migration, its files are not its own: {}",
+                    util::flatten_error_chain_to_string(&e)
+                );
@ 2
+            } else if initial_vm_state == VmState::Running && vm.get_state() == VmState::Paused {
