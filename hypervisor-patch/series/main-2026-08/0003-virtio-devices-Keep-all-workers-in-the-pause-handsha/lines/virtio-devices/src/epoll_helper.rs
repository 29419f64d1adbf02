@ 1
@ 2
+    // Watches the pause event alone.
+    pause_epoll_file: File,
@ 3
+        let pause_epoll = epoll::create(true).map_err(EpollHelperError::CreateFd)?;
+        // SAFETY: the call has made it, and nobody else has it.
+        let pause_epoll_file = unsafe { File::from_raw_fd(pause_epoll) };
@ 4
@ 5
+            pause_epoll_file,
@ 6
+        epoll::ctl(
+            helper.pause_epoll_file.as_raw_fd(),
+            epoll::ControlOptions::EPOLL_CTL_ADD,
+            pause_evt.as_raw_fd(),
+            epoll::Event::new(epoll::Events::EPOLLIN, 0),
+        )
+        .map_err(EpollHelperError::Ctl)?;
@ 7
+        // It is no such state if there is a pause event: that pause has found the
+        // thread still starting, and waits for it on the barrier.
+        while paused.load(Ordering::SeqCst) && !self.pause_requested()? {
@ 8
+                        // paused_sync barrier. All threads have seen the pause
+                        // event then: whoever pauses drains it before the second
+                        // wait, so that an event from here on is a new pause.
+                        paused_sync.wait();
@ 9
+                        // be true, or is so again: with the event of a new pause,
+                        // which wants its own acknowledgement.
+                        while paused.load(Ordering::SeqCst) && !self.pause_requested()? {
@ 10
@ 11
+    /// True if the pause event is there to be handled.
+    fn pause_requested(&self) -> result::Result<bool, EpollHelperError> {
+        let mut ready = [epoll::Event::new(epoll::Events::empty(), 0)];
+        loop {
+            match epoll::wait(self.pause_epoll_file.as_raw_fd(), 0, &mut ready) {
+                Ok(count) => return Ok(count > 0),
+                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
+                Err(e) => return Err(EpollHelperError::Wait(e)),
+            }
+        }
+    }
+
@ 12
+                        // paused_sync barrier. All threads have seen the pause
+                        // event then: whoever pauses drains it before the second
+                        // wait, so that an event from here on is a new pause.
+                        paused_sync.wait();
@ 13
+                        // be true, or is so again: with the event of a new pause,
+                        // which wants its own acknowledgement.
+                        while paused.load(Ordering::SeqCst) && !self.pause_requested()? {
@ 14
