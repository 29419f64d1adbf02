// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A stop that waits in poll(2) see.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Set once, by a stop order.
pub struct Stop {
    event: EventFd,
}

impl Stop {
    /// Returns one that is not set.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self {
            event: EventFd::from_value_and_flags(0, flags)?,
        })
    }

    /// Sets it.
    pub fn set(&self) {
        // It fails only when the counter is full, so when it was set already.
        let _ = self.event.write(1);
    }

    /// Readable once it is set.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// Waits until one of `fds` is readable or at its end, or until `deadline`. Returns which are.
pub fn wait<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    deadline: Option<Instant>,
) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    loop {
        let timeout = match deadline {
            None => PollTimeout::NONE,
            Some(deadline) => {
                // Rounded up: a wait that ends early would only be repeated.
                let left = deadline.saturating_duration_since(Instant::now());
                let left = (left + Duration::from_micros(999)).min(Duration::from_secs(3600));
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut polled, timeout) {
            Ok(0) if deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                return Ok([false; N]);
            }
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => {
                return Ok(polled.map(|fd| fd.revents().is_some_and(|events| !events.is_empty())));
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}
