@ 1
+pub use self::pmem::{Pmem, PmemFlushOptions};
