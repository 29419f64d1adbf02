// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause OR GPL-2.0-only

//! What can go wrong, and the errno each error is for its caller.

/// Linux's errno values that this crate uses, as positive numbers
/// (include/uapi/asm-generic/errno-base.h and errno.h).
mod errno {
    pub const EIO: i32 = 5;
    pub const ENOMEM: i32 = 12;
    pub const EBUSY: i32 = 16;
    pub const ENODEV: i32 = 19;
    pub const EINVAL: i32 = 22;
    pub const ETIMEDOUT: i32 = 110;
}

/// Why a flush or a change of the device's state failed.
///
/// # Invariants
///
/// A host's status never becomes an errno: whatever non-zero value it is, it
/// is [`Error::Host`]. Each variant has exactly one errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The host answered with a status other than 0 (virtio 1.4, pmem device:
    /// 0 is success, -1 is failure; any other value is read as failure too).
    Host,
    /// The host gave the buffer back without having written all of the status.
    Short,
    /// The ring had no memory for the request; the device is still Live.
    NoMemory,
    /// The device is Broken: it needs a reset before it can flush again.
    Broken,
    /// The host did not answer this flush within the flush timeout; the device
    /// is Broken since.
    TimedOut,
    /// The device has been removed.
    Gone,
    /// Something is still in flight at the deadline of a freeze; the device is
    /// Live again.
    Busy,
    /// The call does not fit the device's state (a thaw of a Live device, say).
    WrongState,
}

impl Error {
    /// The errno for the caller: negative, as the kernel returns it.
    #[must_use]
    pub const fn errno(self) -> i32 {
        -match self {
            Self::Host | Self::Short | Self::Broken => errno::EIO,
            Self::NoMemory => errno::ENOMEM,
            Self::TimedOut => errno::ETIMEDOUT,
            Self::Gone => errno::ENODEV,
            Self::Busy => errno::EBUSY,
            Self::WrongState => errno::EINVAL,
        }
    }
}

/// Why a device turned Broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// The transport or the ring core marked the queue broken.
    QueueBroken,
    /// The device set DEVICE_NEEDS_RESET (virtio 1.4, device status field).
    NeedsReset,
    /// The device status is not that of a device in use: it was reset behind the driver's
    /// back, or pulled out.
    Down,
    /// The ring refused the request.
    AddFailed,
    /// The device could not be notified.
    KickFailed,
    /// A used buffer that was not in flight: an unknown or repeated cookie.
    BadCookie,
    /// The host was silent for longer than the flush timeout, or the bound of a removal.
    Silent,
    /// The host was silent until the transport had to be reset.
    SilentUntilReset,
    /// Nobody thawed the device after a freeze: the system is awake, or removes it.
    NotThawed,
}

impl Cause {
    /// What the flush that was in flight failed with.
    pub(crate) const fn error(self) -> Error {
        match self {
            Self::Silent | Self::SilentUntilReset => Error::TimedOut,
            _ => Error::Broken,
        }
    }
}
