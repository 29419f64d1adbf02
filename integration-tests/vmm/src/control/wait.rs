// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Waits for whatever comes first.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::Control;
use super::machine::{Busy, RunningVm};

/// Readable when the process is to end: SIGTERM or SIGINT, or what a test chooses.
pub struct StopSignal(OwnedFd);

impl StopSignal {
    /// Takes SIGTERM and SIGINT over. To be called before any thread is started, so that
    /// no thread takes them the usual way.
    ///
    /// # Errors
    /// No file descriptor.
    pub fn from_signals() -> io::Result<Self> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGTERM);
        signals.add(Signal::SIGINT);
        signals.thread_block()?;
        let fd = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self(fd.as_fd().try_clone_to_owned()?))
    }

    /// Ends the process when `fd` is readable.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

/// What there is to do.
pub struct Ready {
    /// The process is to end.
    pub stop: bool,
    /// The guest has ended.
    pub exit: bool,
    /// A client asks for something.
    pub requests: bool,
}

impl Control {
    /// Waits until there is something to do, or until a deadline of the machine.
    pub(super) fn wait(&self) -> io::Result<Ready> {
        let mut fds = vec![
            PollFd::new(self.stop.0.as_fd(), PollFlags::POLLIN),
            PollFd::new(
                borrow(self, self.mailbox.event().as_raw_fd()),
                PollFlags::POLLIN,
            ),
        ];
        let mut exit = None;
        if let Some(vm) = &self.vm {
            exit = Some(fds.len());
            for fd in vm_fds(vm) {
                fds.push(PollFd::new(borrow(vm, fd), PollFlags::POLLIN));
            }
        }
        let timeout = self
            .vm
            .as_ref()
            .and_then(|vm| vm.machine.deadline())
            .map_or(PollTimeout::NONE, until);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = |index: usize| fds[index].any().unwrap_or(true);
        Ok(Ready {
            stop: ready(0),
            requests: ready(1),
            exit: exit.is_some_and(ready),
        })
    }
}

/// The machine's descriptors; the one that says that its guest has ended comes first.
fn vm_fds(vm: &RunningVm) -> Vec<RawFd> {
    let mut fds = vec![vm.machine.exit_fd(), vm.machine.progress_fd()];
    if let Some(Busy::Writing(writer)) = vm.busy() {
        fds.push(writer.event().as_raw_fd());
    }
    fds
}

/// `fd` belongs to `owner`.
fn borrow<T>(_owner: &T, fd: RawFd) -> BorrowedFd<'_> {
    // SAFETY: the owner keeps the descriptor open, and it is borrowed as long as the
    // owner is.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Milliseconds until `deadline`, rounded up: never early, never a busy loop.
fn until(deadline: Instant) -> PollTimeout {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = left + Duration::from_nanos(999_999);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}
