@ 1
+        // It is no such state if there is a pause event: that pause has found the
+        // thread still starting, and waits for it on the barrier.
+        while paused.load(Ordering::SeqCst) && !self.pause_requested()? {
@ 2
+    /// True if the pause event is there to be handled.
+    #[cfg(not(fuzzing))]
+    fn pause_requested(&self) -> result::Result<bool, EpollHelperError> {
+        let mut ready = [epoll::Event::new(epoll::Events::empty(), 0); 32];
+        loop {
+            match epoll::wait(self.epoll_file.as_raw_fd(), 0, &mut ready) {
+                Ok(count) => {
+                    let pause = u64::from(EPOLL_HELPER_EVENT_PAUSE);
+                    return Ok(ready[..count].iter().any(|event| event.data == pause));
+                }
+                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
+                Err(e) => return Err(EpollHelperError::Wait(e)),
+            }
+        }
+    }
+
