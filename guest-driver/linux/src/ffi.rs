// SPDX-License-Identifier: GPL-2.0-only

//! What `helpers.c` offers. `helpers.h` says the same in C.

use core::ffi::{c_char, c_int, c_ulong, c_void};

/// The kernel's `struct virtio_device`.
#[repr(C)]
pub struct VirtioDevice {
    opaque: [u8; 0],
}

/// The kernel's `struct bio`.
#[repr(C)]
pub struct KernelBio {
    opaque: [u8; 0],
}

/// `struct vpr_device`: what C keeps of a device.
#[repr(C)]
pub struct CDevice {
    opaque: [u8; 0],
}

unsafe extern "C" {
    pub fn vpr_device_new(vdev: *mut VirtioDevice, waits: u32) -> *mut CDevice;
    pub fn vpr_device_free(dev: *mut CDevice);
    pub fn vpr_set_driver(dev: *mut CDevice, driver: *mut c_void);
    pub fn vpr_alloc(size: usize) -> *mut c_void;
    pub fn vpr_free(memory: *mut c_void);
    pub fn vpr_is_modern(vdev: *mut VirtioDevice) -> bool;
    pub fn vpr_region(vdev: *mut VirtioDevice, start: *mut u64, size: *mut u64) -> c_int;
    pub fn vpr_page_size() -> u64;
    pub fn vpr_register_region(dev: *mut CDevice, start: u64, size: u64) -> c_int;
    pub fn vpr_unregister_region(dev: *mut CDevice);

    pub fn vpr_open_queue(dev: *mut CDevice) -> c_int;
    pub fn vpr_ready(dev: *mut CDevice);
    pub fn vpr_reset(dev: *mut CDevice);
    pub fn vpr_close_queue(dev: *mut CDevice);
    pub fn vpr_add(
        dev: *mut CDevice,
        command: *mut c_void,
        status: *mut c_void,
        cookie: c_ulong,
    ) -> c_int;
    pub fn vpr_kick(dev: *mut CDevice) -> bool;
    pub fn vpr_next_used(dev: *mut CDevice, len: *mut u32) -> c_ulong;
    pub fn vpr_detach(dev: *mut CDevice) -> c_ulong;
    pub fn vpr_queue_broken(dev: *mut CDevice) -> bool;
    pub fn vpr_status(dev: *mut CDevice) -> u8;

    pub fn vpr_lock(dev: *mut CDevice) -> c_ulong;
    pub fn vpr_unlock(dev: *mut CDevice, flags: c_ulong);
    pub fn vpr_wait(
        dev: *mut CDevice,
        queue: u32,
        ticks: u64,
        ready: unsafe extern "C" fn(*mut c_void) -> bool,
        context: *mut c_void,
    );
    pub fn vpr_wake(dev: *mut CDevice, queue: u32);
    pub fn vpr_now() -> u64;
    pub fn vpr_ticks(milliseconds: u32) -> u64;
    pub fn vpr_arm_watchdog(dev: *mut CDevice, ticks: u64);
    pub fn vpr_end_watchdog(dev: *mut CDevice);

    pub fn vpr_follow_system(dev: *mut CDevice) -> c_int;
    pub fn vpr_unfollow_system(dev: *mut CDevice);
    pub fn vpr_forget_failure(dev: *mut CDevice);

    pub fn vpr_bio_next(bio: *mut KernelBio) -> *mut KernelBio;
    pub fn vpr_bio_link(bio: *mut KernelBio, next: *mut KernelBio);
    pub fn vpr_bio_end(bio: *mut KernelBio, error: c_int);

    pub fn vpr_say_error(vdev: *mut VirtioDevice, text: *const c_char);
    pub fn vpr_say_warning(vdev: *mut VirtioDevice, text: *const c_char);
    pub fn vpr_say_region(vdev: *mut VirtioDevice, text: *const c_char, start: u64, size: u64);
    pub fn vpr_freeze_timeout_ms() -> u32;
    pub fn vpr_flush_timeout_ms() -> u32;
    pub fn vpr_remove_timeout_ms() -> u32;
}

#[cfg(vpr_faults)]
unsafe extern "C" {
    pub fn vpr_fault_fail_kick() -> bool;
    pub fn vpr_fault_drop_completion() -> bool;
    pub fn vpr_fault_bad_request() -> bool;
    pub fn vpr_fault_no_page() -> bool;
    pub fn vpr_add_readable(dev: *mut CDevice, command: *mut c_void, cookie: c_ulong) -> c_int;
}
