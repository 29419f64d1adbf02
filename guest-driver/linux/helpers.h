/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The border between C and Rust. vpr_* is C that Rust calls, vpr_rs_* is Rust
 * that C calls. src/ffi.rs says the same in Rust.
 */
#ifndef VIRTIO_PMEM_RS_HELPERS_H
#define VIRTIO_PMEM_RS_HELPERS_H

#include <linux/types.h>

struct bio;
struct virtio_device;
struct vpr_device;

/* helpers.c: the device and its parts */
struct vpr_device *vpr_device_new(struct virtio_device *vdev, u32 waits);
void vpr_device_free(struct vpr_device *dev);
void vpr_set_driver(struct vpr_device *dev, void *driver);
void *vpr_alloc(size_t size);
void vpr_free(void *memory);
bool vpr_is_modern(struct virtio_device *vdev);
int vpr_region(struct virtio_device *vdev, u64 *start, u64 *size);
u64 vpr_page_size(void);
int vpr_register_region(struct vpr_device *dev, u64 start, u64 size);
void vpr_unregister_region(struct vpr_device *dev);

/* helpers.c: the queue and the status */
int vpr_open_queue(struct vpr_device *dev);
void vpr_ready(struct vpr_device *dev);
void vpr_reset(struct vpr_device *dev);
void vpr_close_queue(struct vpr_device *dev);
int vpr_add(struct vpr_device *dev, void *command, void *status,
	    unsigned long cookie);
bool vpr_kick(struct vpr_device *dev);
unsigned long vpr_next_used(struct vpr_device *dev, u32 *len);
unsigned long vpr_detach(struct vpr_device *dev);
bool vpr_queue_broken(struct vpr_device *dev);
u8 vpr_status(struct vpr_device *dev);

/* helpers.c: lock, sleep, time */
unsigned long vpr_lock(struct vpr_device *dev);
void vpr_unlock(struct vpr_device *dev, unsigned long flags);
void vpr_wait(struct vpr_device *dev, u32 queue, u64 ticks,
	      bool (*ready)(void *), void *context);
void vpr_wake(struct vpr_device *dev, u32 queue);
u64 vpr_now(void);
u64 vpr_ticks(u32 milliseconds);
void vpr_arm_watchdog(struct vpr_device *dev, u64 ticks);
void vpr_end_watchdog(struct vpr_device *dev);

/* helpers.c: the system's sleep and end */
int vpr_follow_system(struct vpr_device *dev);
void vpr_unfollow_system(struct vpr_device *dev);
void vpr_forget_failure(struct vpr_device *dev);

/* helpers.c: bios */
struct bio *vpr_bio_next(struct bio *bio);
void vpr_bio_link(struct bio *bio, struct bio *next);
void vpr_bio_end(struct bio *bio, int error);

/* helpers.c: what the user sees and sets */
void vpr_say_error(struct virtio_device *vdev, const char *text);
void vpr_say_warning(struct virtio_device *vdev, const char *text);
void vpr_say_region(struct virtio_device *vdev, const char *text, u64 start,
		    u64 size);
u32 vpr_freeze_timeout_ms(void);
u32 vpr_flush_timeout_ms(void);
u32 vpr_remove_timeout_ms(void);
bool vpr_fault_fail_kick(void);
bool vpr_fault_drop_completion(void);
bool vpr_fault_drop_interrupt(void);
bool vpr_fault_region(u64 *start, u64 *size);
void vpr_fault_features(struct virtio_device *vdev);
bool vpr_fault_bad_request(void);
bool vpr_fault_skip_restore(void);
bool vpr_fault_no_page(void);
int vpr_add_readable(struct vpr_device *dev, void *command,
		     unsigned long cookie);

/* src/entry.rs */
int vpr_rs_probe(struct virtio_device *vdev);
void vpr_rs_remove(void *driver);
void vpr_rs_shutdown(void *driver);
int vpr_rs_freeze(void *driver);
int vpr_rs_restore(void *driver);
int vpr_rs_reset_prepare(void *driver);
int vpr_rs_reset_done(void *driver);
void vpr_rs_power_event(void *driver, unsigned long event);
void vpr_rs_going_down(void *driver);
void vpr_rs_config_changed(void *driver);
void vpr_rs_used(void *driver);
void vpr_rs_watchdog(void *driver);
int vpr_rs_flush(void *driver);
int vpr_rs_flush_bio(void *driver, struct bio *bio);
u64 vpr_rs_counter(void *driver, u32 index);
const char *vpr_rs_state(void *driver);

#endif
