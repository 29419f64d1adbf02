@ 1
+pub(crate) mod unfinished;
