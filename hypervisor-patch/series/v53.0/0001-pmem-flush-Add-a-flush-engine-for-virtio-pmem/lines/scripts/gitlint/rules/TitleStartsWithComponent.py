@ 1
+            'pmem-flush',
