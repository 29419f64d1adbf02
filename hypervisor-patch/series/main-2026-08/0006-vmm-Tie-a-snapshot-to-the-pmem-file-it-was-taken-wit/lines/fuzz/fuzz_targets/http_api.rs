@ 1
+    fn vm_snapshot(&mut self, _: &str, _: bool) -> Result<(), VmError> {
