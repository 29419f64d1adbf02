// SPDX-License-Identifier: GPL-2.0-only

//! Where C calls in. `driver` is always what [`vpr_rs_probe`] set: a [`Device`] that lives until
//! [`vpr_rs_remove`] returns. The kernel ends every other call before or during that one.

use core::ffi::{c_char, c_int, c_ulong, c_void};
use core::mem::size_of;
use core::ptr::NonNull;

use crate::bios::Bio;
use crate::counters;
use crate::device::Device;
use crate::ffi::{self, KernelBio, VirtioDevice};
use crate::handle::{Errno, Handle, Virtio};
use crate::platform::WAITS;
use crate::region::Region;

/// -ENODEV and -ENOMEM (include/uapi/asm-generic/errno-base.h).
const ENODEV: Errno = -19;
const ENOMEM: Errno = -12;

/// The ends of a sleep (include/linux/suspend.h): devices are up by then, or won't be.
const PM_POST_HIBERNATION: c_ulong = 2;
const PM_POST_SUSPEND: c_ulong = 4;
const PM_POST_RESTORE: c_ulong = 6;

fn errno(outcome: Result<(), Errno>) -> c_int {
    outcome.map_or_else(|errno| errno, |()| 0)
}

/// The device behind a callback.
///
/// # Safety
///
/// `driver` is what [`vpr_rs_probe`] set, and [`vpr_rs_remove`] has not returned.
unsafe fn device<'a>(driver: *mut c_void) -> &'a Device {
    // SAFETY: the caller's promise. All of a device's methods take it shared.
    unsafe { &*driver.cast::<Device>() }
}

/// Binds to a device: 0 or a negative errno.
#[unsafe(no_mangle)]
unsafe extern "C" fn vpr_rs_probe(vdev: *mut VirtioDevice) -> c_int {
    let Some(vdev) = NonNull::new(vdev) else {
        return ENODEV;
    };
    // SAFETY: the kernel binds this device to this driver; the handles die with the binding.
    errno(probe(unsafe { Virtio::new(vdev) }))
}

fn probe(virtio: Virtio) -> Result<(), Errno> {
    if !virtio.is_modern() {
        virtio.error(c"the device does not offer VERSION_1, which this driver needs");
        return Err(ENODEV);
    }
    let region = Region::read(virtio)?;
    let handle = Handle::new(virtio, WAITS).ok_or(ENOMEM)?;
    // SAFETY: always allowed.
    let memory = unsafe { ffi::vpr_alloc(size_of::<Device>()) }.cast::<Device>();
    if memory.is_null() {
        // SAFETY: nothing has been made of it yet.
        unsafe { handle.free() };
        return Err(ENOMEM);
    }
    // SAFETY: the memory is large enough, and aligned, as its size was rounded up to a power of two.
    // It stays until `free`.
    let device = unsafe {
        memory.write(Device::new(handle, region));
        handle.set_driver(memory.cast());
        &*memory
    };
    let started = device.start();
    if started.is_err() {
        // SAFETY: a start that fails has taken everything down.
        unsafe { free(memory) };
    }
    started
}

/// # Safety
///
/// The device was taken down: nothing calls it any more.
unsafe fn free(memory: *mut Device) {
    // SAFETY: the caller's promise; the device was written by `probe`, and nothing in it
    // has a destructor.
    unsafe {
        let handle = (*memory).handle();
        handle.free();
        ffi::vpr_free(memory.cast());
    }
    #[cfg(vpr_use_after_free)]
    touch_freed_request();
}

/// Where the last request's status was, for [`touch_freed_request`].
#[cfg(vpr_use_after_free)]
pub static LAST_STATUS: core::sync::atomic::AtomicPtr<u32> =
    core::sync::atomic::AtomicPtr::new(core::ptr::null_mut());

/// What nobody may do: reads a request that was freed. KASAN has to see it.
#[cfg(vpr_use_after_free)]
#[inline(never)]
fn touch_freed_request() {
    let status = LAST_STATUS.load(core::sync::atomic::Ordering::Relaxed);
    if !status.is_null() {
        // SAFETY: there is none. This is the fault that is to be found, in builds for that only.
        unsafe { status.read_volatile() };
    }
}

/// Unbinds.
#[unsafe(no_mangle)]
unsafe extern "C" fn vpr_rs_remove(driver: *mut c_void) {
    // SAFETY: C hands over what probe set; after `remove` nothing calls it any more.
    unsafe {
        device(driver).remove();
        free(driver.cast());
    }
}

/// The system goes down.
#[unsafe(no_mangle)]
unsafe extern "C" fn vpr_rs_shutdown(driver: *mut c_void) {
    // SAFETY: C hands over what probe set.
    unsafe { device(driver) }.shut_down();
}

/// Suspend: 0 or a negative errno.
#[unsafe(no_mangle)]
unsafe extern "C" fn vpr_rs_freeze(driver: *mut c_void) -> c_int {
    // SAFETY: C hands over what probe set.
    errno(unsafe { device(driver) }.freeze())
}

/// Resume: 0 or a negative errno.
#[unsafe(no_mangle)]
unsafe extern "C" fn vpr_rs_restore(driver: *mut c_void) -> c_int {
    // SAFETY: C hands over what probe set.
    errno(unsafe { device(driver) }.restore())
}

/// The transport is about to be reset: 0.
#[unsafe(no_mangle)]
unsafe extern "C" fn vpr_rs_reset_prepare(driver: *mut c_void) -> c_int {
    // SAFETY: C hands over what probe set.
    unsafe { device(driver) }.reset_prepare();
    0
}

/// The transport was reset: 0 or a negative errno.
#[unsafe(no_mangle)]
unsafe extern "C" fn vpr_rs_reset_done(driver: *mut c_void) -> c_int {
    // SAFETY: C hands over what probe set.
    errno(unsafe { device(driver) }.reset_done())
}

/// The system goes to sleep, or has woken up: a number of its own for each.
#[unsafe(no_mangle)]
unsafe extern "C" fn vpr_rs_power_event(driver: *mut c_void, event: c_ulong) {
    if matches!(
        event,
        PM_POST_HIBERNATION | PM_POST_SUSPEND | PM_POST_RESTORE
    ) {
        // SAFETY: C hands over what probe set.
        unsafe { device(driver) }.awake();
    }
}

/// The system is about to go down; its users of the memory still flush.
#[unsafe(no_mangle)]
unsafe extern "C" fn vpr_rs_going_down(driver: *mut c_void) {
    // SAFETY: C hands over what probe set.
    unsafe { device(driver) }.going_down();
}

/// Configuration change, maybe in an interrupt.
#[unsafe(no_mangle)]
unsafe extern "C" fn vpr_rs_config_changed(driver: *mut c_void) {
    // SAFETY: C hands over what probe set.
    unsafe { device(driver) }.config_changed();
}

/// Used buffers, in an interrupt.
#[unsafe(no_mangle)]
unsafe extern "C" fn vpr_rs_used(driver: *mut c_void) {
    // SAFETY: C hands over what probe set.
    unsafe { device(driver) }.used();
}

/// The watchdog's timer.
#[unsafe(no_mangle)]
unsafe extern "C" fn vpr_rs_watchdog(driver: *mut c_void) {
    // SAFETY: C hands over what probe set.
    unsafe { device(driver) }.watchdog();
}

/// A flush whose caller waits: 0 or a negative errno.
#[unsafe(no_mangle)]
unsafe extern "C" fn vpr_rs_flush(driver: *mut c_void) -> c_int {
    // SAFETY: C hands over what probe set.
    errno(unsafe { device(driver) }.flush())
}

/// A flush for a bio: 0, the bio is ended later; or a negative errno, it is still the caller's.
#[unsafe(no_mangle)]
unsafe extern "C" fn vpr_rs_flush_bio(driver: *mut c_void, bio: *mut KernelBio) -> c_int {
    // SAFETY: C hands over what probe set.
    let device = unsafe { device(driver) };
    match NonNull::new(bio) {
        // SAFETY: C hands over a bio that the block layer gave it; it returns without it if the
        // outcome is 0.
        Some(bio) => errno(device.flush_bio(unsafe { Bio::new(bio) })),
        None => errno(device.flush()),
    }
}

/// A counter by its number.
#[unsafe(no_mangle)]
unsafe extern "C" fn vpr_rs_counter(driver: *mut c_void, index: u32) -> u64 {
    // SAFETY: C hands over what probe set.
    unsafe { device(driver) }.counter(index)
}

/// The state's name, ended by a 0.
#[unsafe(no_mangle)]
unsafe extern "C" fn vpr_rs_state(driver: *mut c_void) -> *const c_char {
    // SAFETY: C hands over what probe set.
    counters::state(unsafe { device(driver) }.state()).as_ptr()
}
