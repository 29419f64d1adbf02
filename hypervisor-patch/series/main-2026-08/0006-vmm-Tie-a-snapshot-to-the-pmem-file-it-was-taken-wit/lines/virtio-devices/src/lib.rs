@ 1
+pub use self::pmem::{Pmem, PmemFlushOptions, lock_pmem_file};
