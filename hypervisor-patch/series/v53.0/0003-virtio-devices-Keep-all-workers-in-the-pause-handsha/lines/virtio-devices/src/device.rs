@ 1
+use crate::epoll_helper::{EpollHelper, EpollHelperError, EpollHelperHandler};
@ 2
+    VIRTIO_F_RING_INDIRECT_DESC, mark_device_needs_reset,
@ 3
+/// Takes the place of a worker that failed: it watches the pause and kill
+/// events alone, so that the barrier in pause() keeps its count and the thread
+/// can still be joined.
+struct StandIn {
+    kill_evt: EventFd,
+    pause_evt: EventFd,
+    paused: Arc<AtomicBool>,
+    paused_sync: Arc<Barrier>,
+}
+
+impl EpollHelperHandler for StandIn {
+    fn handle_event(
+        &mut self,
+        _helper: &mut EpollHelper,
+        event: &epoll::Event,
+    ) -> result::Result<(), EpollHelperError> {
+        let ev_type = event.data as u16;
+        Err(EpollHelperError::HandleEvent(anyhow!(
+            "Unexpected event: {ev_type}"
+        )))
+    }
+}
+
+impl StandIn {
+    fn run(mut self) -> result::Result<(), EpollHelperError> {
+        let paused = self.paused.clone();
+        let paused_sync = self.paused_sync.clone();
+        EpollHelper::new(&self.kill_evt, &self.pause_evt)?.run(&paused, &paused_sync, &mut self)
+    }
+}
+
@ 4
+        // A worker that fails stops serving its queues, but pause() and reset()
+        // still count on it, so it goes on as a stand-in that serves just those.
+        let stand_in = match self.stand_in() {
+            Ok(stand_in) => stand_in,
+            Err(e) => {
+                self.reset();
+                return Err(e);
+            }
+        };
+        let worker_status = device_status.clone();
+        let worker_interrupt = interrupt_cb.clone();
+        let worker_name = name.to_string();
+        let f = move || match f() {
+            Ok(()) => Ok(()),
+            Err(e) => {
+                let Some(stand_in) = stand_in else {
+                    return Err(e);
+                };
+                mark_device_needs_reset(
+                    &worker_status,
+                    worker_interrupt.as_ref(),
+                    format_args!("{worker_name}: worker failed: {e:?}"),
+                );
+                stand_in.run()
+            }
+        };
+
@ 5
+    /// What a worker needs to go on taking part in pause() after it failed.
+    /// None for a device whose workers do not take part in it.
+    fn stand_in(&self) -> Result<Option<StandIn>, ActivateError> {
+        let Some(paused_sync) = self.paused_sync.clone() else {
+            return Ok(None);
+        };
+        if self.workers.is_none() || self.pause_evt.is_none() {
+            return Ok(None);
+        }
+        let (kill_evt, pause_evt) = self.dup_eventfds()?;
+        Ok(Some(StandIn {
+            kill_evt,
+            pause_evt,
+            paused: self.paused.clone(),
+            paused_sync,
+        }))
+    }
+
@ 6
+            // A worker that was only just made may have seen `paused` before
+            // the event, and parked without having acknowledged it.
+            if let Some(workers) = &self.workers {
+                workers.unpark();
+            }
@ 7
+            let paused_sync = self.paused_sync.as_ref().unwrap();
+            paused_sync.wait();
+
+            // No thread looks at the event before the second wait. It is gone
+            // then, so a thread that a resume has not woken before the next pause
+            // can tell that one by its event.
+            let drained = pause_evt.read();
+            paused_sync.wait();
+            drained.map_err(|e| MigratableError::Pause(e.into()))?;
@ 8
+    use std::sync::atomic::AtomicUsize;
+    use std::sync::mpsc;
+    use std::time::Duration;
@ 9
+    use crate::DEVICE_NEEDS_RESET;
@ 10
+    struct SignallingInterrupt(EventFd);
+    impl VirtioInterrupt for SignallingInterrupt {
+        fn trigger(&self, _: VirtioInterruptType) -> io::Result<()> {
+            self.0.write(1)
+        }
+        fn set_notifier(
+            &self,
+            _: u32,
+            _: Option<EventFd>,
+            _: &dyn hypervisor::Vm,
+        ) -> io::Result<()> {
+            Ok(())
+        }
+    }
+
@ 11
+    fn failed_worker_still_takes_part_in_pause() {
+        let (mut common, _) = make_common_with_workers();
+        common.pause_evt = Some(EventFd::new(EFD_NONBLOCK).unwrap());
+        common.paused_sync = Some(Arc::new(Barrier::new(2)));
+
+        let interrupt = Arc::new(SignallingInterrupt(EventFd::new(0).unwrap()));
+        let exit_evt = EventFd::new(EFD_NONBLOCK).unwrap();
+        let status = Arc::new(AtomicU8::new(0));
+        common
+            .spawn_worker(
+                "test",
+                &SeccompAction::Allow,
+                Thread::VirtioBlock,
+                &exit_evt,
+                status.clone(),
+                interrupt.clone(),
+                || Err(EpollHelperError::HandleEvent(anyhow!("bad ring"))),
+            )
+            .unwrap();
+
+        // The config interrupt says that the worker has failed.
+        interrupt.0.read().unwrap();
+        assert_eq!(
+            status.load(Ordering::SeqCst),
+            DEVICE_NEEDS_RESET as u8,
+            "the guest must be told"
+        );
+
+        // pause() waits on the barrier, so it must run beside the test: a hang
+        // has to end in a failure.
+        let (done, finished) = mpsc::channel();
+        let handle = thread::spawn(move || {
+            common.pause().unwrap();
+            common.resume().unwrap();
+            common.reset();
+            done.send(()).unwrap();
+        });
+        finished
+            .recv_timeout(Duration::from_secs(30))
+            .expect("pause() must not wait for a worker that has failed");
+        handle.join().unwrap();
+    }
+
+    struct NoEvents;
+    impl EpollHelperHandler for NoEvents {
+        fn handle_event(
+            &mut self,
+            _: &mut EpollHelper,
+            _: &epoll::Event,
+        ) -> result::Result<(), EpollHelperError> {
+            Ok(())
+        }
+    }
+
+    /// VirtioCommon with workers that take part in pause and do nothing else.
+    /// Each calls `before` first.
+    fn common_with_pausable_workers<F>(count: usize, before: F) -> VirtioCommon
+    where
+        F: Fn(&AtomicBool) + Clone + Send + 'static,
+    {
+        let (mut common, kill_evt) = make_common_with_workers();
+        let pause_evt = EventFd::new(EFD_NONBLOCK).unwrap();
+        common.pause_evt = Some(pause_evt.try_clone().unwrap());
+        common.paused_sync = Some(Arc::new(Barrier::new(count + 1)));
+
+        let exit_evt = EventFd::new(EFD_NONBLOCK).unwrap();
+        for _ in 0..count {
+            let kill_evt = kill_evt.try_clone().unwrap();
+            let pause_evt = pause_evt.try_clone().unwrap();
+            let paused = common.paused.clone();
+            let paused_sync = common.paused_sync.clone().unwrap();
+            let before = before.clone();
+            common
+                .spawn_worker(
+                    "test",
+                    &SeccompAction::Allow,
+                    Thread::VirtioBlock,
+                    &exit_evt,
+                    Arc::new(AtomicU8::new(0)),
+                    Arc::new(NoopInterrupt),
+                    move || {
+                        before(&paused);
+                        EpollHelper::new(&kill_evt, &pause_evt)?.run(
+                            &paused,
+                            &paused_sync,
+                            &mut NoEvents,
+                        )
+                    },
+                )
+                .unwrap();
+        }
+        common
+    }
+
+    /// Pauses and resumes in a thread of its own, as a pause that waits for ever
+    /// has to end in a failure.
+    fn pause_and_resume(mut common: VirtioCommon, rounds: usize, failure: &str) {
+        let (done, finished) = mpsc::channel();
+        let handle = thread::spawn(move || {
+            for _ in 0..rounds {
+                common.pause().unwrap();
+                common.resume().unwrap();
+            }
+            common.reset();
+            done.send(()).unwrap();
+        });
+        finished
+            .recv_timeout(Duration::from_secs(30))
+            .expect(failure);
+        handle.join().unwrap();
+    }
+
+    #[test]
+    fn pause_finds_a_worker_that_is_still_starting() {
+        // The worker starts when the pause is under way.
+        let common = common_with_pausable_workers(1, |pausing| {
+            while !pausing.load(Ordering::SeqCst) {
+                thread::yield_now();
+            }
+        });
+
+        pause_and_resume(
+            common,
+            1,
+            "pause() must not wait for a worker that has parked",
+        );
+    }
+
+    #[test]
+    fn pause_right_after_resume_finds_workers_that_have_not_woken_up() {
+        for count in 1..4 {
+            let common = common_with_pausable_workers(count, |_| ());
+
+            pause_and_resume(
+                common,
+                200,
+                "pause() must not wait for a worker that takes it for the last pause",
+            );
+        }
+    }
+
+    #[test]
+    fn reset_joins_workers_that_are_paused() {
+        let mut common = common_with_pausable_workers(2, |_| ());
+        let (done, finished) = mpsc::channel();
+        let handle = thread::spawn(move || {
+            common.pause().unwrap();
+            common.reset();
+            done.send(()).unwrap();
+        });
+        finished
+            .recv_timeout(Duration::from_secs(30))
+            .expect("reset() must wake the workers that it joins");
+        handle.join().unwrap();
+    }
+
+    #[test]
