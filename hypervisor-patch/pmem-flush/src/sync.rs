// SPDX-License-Identifier: Apache-2.0 AND BSD-3-Clause

//! The primitives of the handshake: the standard library's and an eventfd, or,
//! under `cfg(loom)`, ones whose every interleaving a model can try.

#[cfg(not(loom))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

pub(crate) use bell::Doorbell;
#[cfg(loom)]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};

#[cfg(not(loom))]
mod bell {
    use std::io;

    use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

    /// Wakes a thread that polls it.
    #[derive(Debug)]
    pub(crate) struct Doorbell(EventFd);

    impl Doorbell {
        pub(crate) fn new() -> io::Result<Self> {
            EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map(Doorbell)
        }

        /// Rings. A bell that rang 2^64 - 2 times without being read stays
        /// readable, so a failure to count one more is none.
        pub(crate) fn ring(&self) {
            let _ = self.0.write(1);
        }

        pub(crate) fn event(&self) -> &EventFd {
            &self.0
        }
    }
}

#[cfg(loom)]
mod bell {
    use std::io;

    use loom::sync::{Condvar, Mutex};

    /// An eventfd as a model has it: readable from a ring to the next wait.
    #[derive(Debug)]
    pub(crate) struct Doorbell {
        rung: Mutex<bool>,
        wake: Condvar,
    }

    impl Doorbell {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Doorbell {
                rung: Mutex::new(false),
                wake: Condvar::new(),
            })
        }

        pub(crate) fn ring(&self) {
            *self.rung.lock().expect("no thread of a model panics") = true;
            self.wake.notify_all();
        }

        /// Waits for a ring and reads it, as an epoll loop does.
        pub(crate) fn wait(&self) {
            let mut rung = self.rung.lock().expect("no thread of a model panics");
            while !*rung {
                rung = self.wake.wait(rung).expect("no thread of a model panics");
            }
            *rung = false;
        }
    }
}
