@ 1
@ 2
+    // Watches the pause event alone.
+    pause_epoll_file: File,
@ 3
+        let create = || {
+            let epoll_fd = epoll::create(true).map_err(EpollHelperError::CreateFd)?;
+            // Use 'File' to enforce closing on 'epoll_fd'
+            // SAFETY: epoll_fd is a valid fd
+            Ok(unsafe { File::from_raw_fd(epoll_fd) })
+        };
@ 4
+            epoll_file: create()?,
+            pause_epoll_file: create()?,
@ 5
+        epoll::ctl(
+            helper.pause_epoll_file.as_raw_fd(),
+            epoll::ControlOptions::EPOLL_CTL_ADD,
+            pause_evt.as_raw_fd(),
+            epoll::Event::new(epoll::Events::EPOLLIN, 0),
+        )
+        .map_err(EpollHelperError::Ctl)?;
@ 6
+        // It is no such state if there is a pause event: that pause has found the
+        // thread still starting, and waits for it on the barrier.
+        while paused.load(Ordering::SeqCst) && !self.pause_requested()? {
@ 7
+                        // paused_sync barrier. All threads have seen the pause
+                        // event then: whoever pauses drains it before the second
+                        // wait, so that an event from here on is a new pause.
+                        paused_sync.wait();
@ 8
+                        // be true, or is so again: with the event of a new pause,
+                        // which wants its own acknowledgement.
+                        while paused.load(Ordering::SeqCst) && !self.pause_requested()? {
@ 9
@ 10
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
@ 11
+                        // paused_sync barrier. All threads have seen the pause
+                        // event then: whoever pauses drains it before the second
+                        // wait, so that an event from here on is a new pause.
+                        paused_sync.wait();
@ 12
+                        // be true, or is so again: with the event of a new pause,
+                        // which wants its own acknowledgement.
+                        while paused.load(Ordering::SeqCst) && !self.pause_requested()? {
@ 13
