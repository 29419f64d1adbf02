// SPDX-License-Identifier: GPL-2.0-only

//! One device's life: probe, suspend, removal. Each is a sequence of flush-core's steps and of the
//! transport's, in the order that flush-core's README demands.

use core::sync::atomic::{AtomicBool, Ordering};

use flush_core::{Cause, Device as State, Error, FlushCore, Ticks};

use crate::bios::Bio;
use crate::counters::{self, Freezes};
use crate::handle::{self, Errno, Handle};
use crate::platform::{Kernel, SLOTS};
use crate::region::Region;

/// How often a waiting freeze or removal looks at the device, in milliseconds.
const POLL_MS: u32 = 20;

/// A bound device. It lives in kmalloc'ed memory, because its requests are the host's to read and
/// write.
pub struct Device {
    core: FlushCore<Kernel, SLOTS>,
    handle: Handle,
    region: Region,
    freezes: Freezes,
    /// From a freeze to its restore. Each comes after the other has ended, and the system is awake
    /// after both: relaxed will do.
    asleep: AtomicBool,
}

fn poll() -> Ticks {
    handle::ticks(POLL_MS)
}

impl Device {
    /// A device that is not started.
    pub fn new(handle: Handle, region: Region) -> Self {
        let timeout = handle::flush_timeout();
        Self {
            core: FlushCore::new(Kernel::new(handle, timeout), timeout),
            handle,
            region,
            freezes: Freezes::default(),
            asleep: AtomicBool::new(false),
        }
    }

    /// C's part of the device.
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// Starts the device, then offers its memory: a flush may come before this returns.
    /// After an error everything is as it was.
    pub fn start(&self) -> Result<(), Errno> {
        let followed = self.handle.follow_system();
        let started = followed.and_then(|()| self.bring_up()).and_then(|()| {
            self.handle
                .register_region(self.region.start, self.region.size)
                .inspect_err(|_| {
                    self.handle.virtio().bad_region(
                        c"the kernel's nvdimm core refused it",
                        self.region.start,
                        self.region.size,
                    );
                })
        });
        if started.is_err() {
            self.take_down();
        }
        started
    }

    /// Removal, by unbind or because the device is gone. The memory is unregistered while the
    /// device is Live, so that the last flush of its user succeeds.
    pub fn remove(&self) {
        self.core.begin_remove(handle::remove_timeout());
        self.handle.unregister_region();
        self.take_down();
    }

    /// The system goes down: what is in flight is waited for, then the device is reset, so that it no
    /// longer writes into memory. Its user stays and gets errors.
    pub fn shut_down(&self) {
        self.core.finish_remove(handle::remove_timeout(), poll());
        self.reset();
    }

    /// The system is about to go down. Whoever uses the memory flushes before [`Device::shut_down`]
    /// comes, and waits for the host no longer than a removal would.
    pub fn going_down(&self) {
        self.core.limit(handle::remove_timeout());
    }

    /// Suspend: waits for the answer that is in flight and holds what comes later.
    pub fn freeze(&self) -> Result<(), Errno> {
        Freezes::count(&self.freezes.begun, true);
        Freezes::count(&self.freezes.in_flight, self.core.counters().in_flight > 0);
        match self.core.freeze(handle::freeze_timeout(), poll()) {
            // A restore brings a Broken device back too.
            Ok(()) | Err(Error::Broken) => {
                self.reset();
                self.handle.close_queue();
                self.handle.forget_failure();
                self.asleep.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(Error::Busy) => {
                Freezes::count(&self.freezes.called_off, true);
                self.handle.virtio().warning(
                    c"suspend called off: a flush was not answered within freeze_timeout_ms",
                );
                Err(Error::Busy.errno())
            }
            Err(error) => Err(error.errno()),
        }
    }

    /// Resume: brings the device up and lets go what waits.
    pub fn restore(&self) -> Result<(), Errno> {
        self.asleep.store(false, Ordering::Relaxed);
        Freezes::count(&self.freezes.parked, self.core.counters().parked > 0);
        self.bring_back()
    }

    /// The system is awake. A device that was not restored by now won't be: the virtio core or the
    /// bus could not bring it so far. Whoever waits for it is told.
    pub fn awake(&self) {
        if self.asleep.swap(false, Ordering::Relaxed) {
            self.core.mark_broken(Cause::NotThawed);
        }
    }

    /// The transport is about to be reset, whatever this says. What is in flight is waited for, as before
    /// a suspend; what the host does not answer in time fails, together with what waits.
    pub fn reset_prepare(&self) {
        Freezes::count(&self.freezes.resets, true);
        if self.core.freeze(handle::freeze_timeout(), poll()) == Err(Error::Busy) {
            self.core.mark_broken(Cause::SilentUntilReset);
        }
        self.reset();
        self.handle.close_queue();
    }

    /// The transport was reset.
    pub fn reset_done(&self) -> Result<(), Errno> {
        self.bring_back()
    }

    fn bring_back(&self) -> Result<(), Errno> {
        let same = Region::read(self.handle.virtio()).is_ok_and(|region| region == self.region);
        if !same {
            self.handle
                .virtio()
                .error(c"the device came back with other memory");
            self.core.mark_broken(Cause::NeedsReset);
            return Err(Error::Broken.errno());
        }
        self.bring_up()
            .inspect_err(|_| self.core.mark_broken(Cause::QueueBroken))
    }

    /// The device says that something about it changed.
    pub fn config_changed(&self) {
        self.core.changed();
    }

    /// The device gave something back.
    pub fn used(&self) {
        self.core.used();
    }

    /// The watchdog's time has come.
    pub fn watchdog(&self) {
        if self.core.watchdog() {
            self.core.platform().arm_again();
        }
    }

    /// A flush whose caller waits.
    pub fn flush(&self) -> Result<(), Errno> {
        self.core.flush().map_err(Error::errno)
    }

    /// A flush for a bio, which is ended later. After an error the bio is still the caller's.
    pub fn flush_bio(&self, bio: Bio) -> Result<(), Errno> {
        self.core.flush_bio(bio).map_err(|(error, _)| error.errno())
    }

    /// The counter of this number, see [`counters::counter`].
    pub fn counter(&self, index: u32) -> u64 {
        counters::counter(self.core.counters(), &self.freezes, index)
    }

    /// Where the device stands.
    pub fn state(&self) -> State {
        self.core.device()
    }

    fn bring_up(&self) -> Result<(), Errno> {
        self.handle.open_queue().inspect_err(|_| {
            self.handle
                .virtio()
                .error(c"the flush queue could not be set up");
        })?;
        self.handle.ready();
        self.core.thaw().map_err(Error::errno)
    }

    /// Ends everything that can call back or sleep here; the device can be freed then.
    fn take_down(&self) {
        self.core.finish_remove(handle::remove_timeout(), poll());
        self.reset();
        self.handle.close_queue();
        self.handle.end_watchdog();
        self.handle.unfollow_system();
        self.core.wait_idle();
    }

    /// Resets the device, unless it is absent: then it is as good as reset.
    fn reset(&self) {
        if !self.handle.status().is_absent() {
            self.handle.reset();
        }
        // Fails for a Live or Draining device only; no caller has one.
        let _ = self.core.after_reset();
    }
}
