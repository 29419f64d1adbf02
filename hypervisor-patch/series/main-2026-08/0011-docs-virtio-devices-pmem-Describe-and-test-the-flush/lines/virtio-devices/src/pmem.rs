@ 1
+
+#[cfg(test)]
+mod unit_tests;
