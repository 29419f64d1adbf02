@ 1
+use virtio_devices::{Pmem, PmemFlushOptions, VirtioDevice, VirtioInterrupt, VirtioInterruptType};
@ 2
+        PmemFlushOptions::default(),
