// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Waits for devices by the kernel's own announcements (netlink uevents).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use crate::agent::stop::{Stop, wait};

/// The kernel's own announcements, not those that a device manager repeats.
const KERNEL_GROUP: u32 = 1;

/// Hears of every device from its creation on.
pub struct Uevents {
    socket: OwnedFd,
}

/// Why a wait ended without success.
pub enum Ended {
    /// At its deadline.
    Deadline,
    /// By a stop order.
    Stopped,
}

impl Uevents {
    /// Begins to listen.
    pub fn listen() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkKObjectUEvent,
        )?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
        Ok(Self { socket })
    }

    /// Asks `check` after each announcement until it gives something.
    ///
    /// # Errors
    ///
    /// `check` failed, or the socket did.
    pub fn until<T>(
        &self,
        deadline: Instant,
        stop: &Stop,
        mut check: impl FnMut() -> io::Result<Option<T>>,
    ) -> io::Result<Result<T, Ended>> {
        loop {
            self.drain()?;
            if let Some(found) = check()? {
                return Ok(Ok(found));
            }
            match wait([self.socket.as_fd(), stop.fd()], Some(deadline))? {
                [_, true] => return Ok(Err(Ended::Stopped)),
                [false, false] => return Ok(Err(Ended::Deadline)),
                [true, false] => {}
            }
        }
    }

    /// Takes all that was announced: the state is looked up, not put together from events, so
    /// that lost ones (ENOBUFS) do no harm.
    fn drain(&self) -> io::Result<()> {
        let mut message = [0; 8192];
        loop {
            match recv(self.socket.as_raw_fd(), &mut message, MsgFlags::empty()) {
                Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
