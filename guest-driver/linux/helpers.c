// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the driver needs C for: inline functions and macros of the kernel,
 * the layouts of its structures, and its callbacks. Nothing here decides;
 * that is the business of src/ and of flush-core.
 */
#include <linux/bio.h>
#include <linux/blk_types.h>
#include <linux/blkdev.h>
#include <linux/io.h>
#include <linux/jiffies.h>
#include <linux/libnvdimm.h>
#include <linux/module.h>
#include <linux/numa.h>
#include <linux/notifier.h>
#include <linux/rcupdate.h>
#include <linux/reboot.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/suspend.h>
#include <linux/sysfs.h>
#include <linux/timer.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pmem.h>
#include <linux/virtio_ring.h>
#include <linux/wait.h>

#include "helpers.h"

/* Bytes of each of the two fields of a request (virtio 1.4, pmem device). */
#define VPR_FIELD sizeof(__le32)

struct vpr_device {
	struct virtio_device *vdev;
	struct virtqueue *queue;
	/* Rust's part, for the callbacks. */
	void *driver;
	spinlock_t lock;
	struct timer_list watchdog;
	struct notifier_block power;
	struct notifier_block reboot;
	struct nvdimm_bus_descriptor bus_descriptor;
	struct nvdimm_bus *bus;
	wait_queue_head_t waits[];
};

static unsigned int freeze_timeout_ms = 10000;
module_param(freeze_timeout_ms, uint, 0644);
MODULE_PARM_DESC(freeze_timeout_ms,
	"how long a suspend waits for the host's answer before it is called off (10000)");

static unsigned int flush_timeout_ms;
module_param(flush_timeout_ms, uint, 0444);
MODULE_PARM_DESC(flush_timeout_ms,
	"how long the host may leave a flush unanswered before the device counts as broken; 0: as long as it likes (0)");

static unsigned int remove_timeout_ms = 30000;
module_param(remove_timeout_ms, uint, 0644);
MODULE_PARM_DESC(remove_timeout_ms,
	"how long unbind and shutdown wait for the host's answer (30000)");

static struct vpr_device *vpr_of(struct virtio_device *vdev)
{
	return vdev->priv;
}

/* The device and its parts */

static void vpr_watchdog(struct timer_list *timer)
{
	struct vpr_device *dev = container_of(timer, struct vpr_device, watchdog);

	vpr_rs_watchdog(dev->driver);
}

struct vpr_device *vpr_device_new(struct virtio_device *vdev, u32 waits)
{
	struct vpr_device *dev = kzalloc(struct_size(dev, waits, waits), GFP_KERNEL);
	u32 i;

	if (!dev)
		return NULL;
	dev->vdev = vdev;
	spin_lock_init(&dev->lock);
	timer_setup(&dev->watchdog, vpr_watchdog, 0);
	for (i = 0; i < waits; i++)
		init_waitqueue_head(&dev->waits[i]);
	vdev->priv = dev;
	return dev;
}

void vpr_device_free(struct vpr_device *dev)
{
	dev->vdev->priv = NULL;
	/* Whoever held the lock last has let go of its memory after this. */
	synchronize_rcu();
	kfree(dev);
}

void vpr_set_driver(struct vpr_device *dev, void *driver)
{
	dev->driver = driver;
}

/* A power of two, because kmalloc aligns only those to their size. */
void *vpr_alloc(size_t size)
{
	return kzalloc(roundup_pow_of_two(size), GFP_KERNEL);
}

void vpr_free(void *memory)
{
	kfree(memory);
}

bool vpr_is_modern(struct virtio_device *vdev)
{
	return virtio_has_feature(vdev, VIRTIO_F_VERSION_1);
}

int vpr_region(struct virtio_device *vdev, u64 *start, u64 *size)
{
	struct virtio_shm_region region;

#ifdef VPR_FAULTS
	if (vpr_fault_region(start, size))
		return 0;
#endif
	if (!virtio_has_feature(vdev, VIRTIO_PMEM_F_SHMEM_REGION)) {
		virtio_cread_le(vdev, struct virtio_pmem_config, start, start);
		virtio_cread_le(vdev, struct virtio_pmem_config, size, size);
		return 0;
	}
	if (!virtio_get_shm_region(vdev, &region, VIRTIO_PMEM_SHMEM_REGION_ID))
		return -ENXIO;
	*start = region.addr;
	*size = region.len;
	return 0;
}

u64 vpr_page_size(void)
{
	return PAGE_SIZE;
}

static int vpr_flush(struct nd_region *region, struct bio *bio)
{
	struct vpr_device *dev = nd_region_provider_data(region);

#ifdef NVDIMM_FLUSH_ASYNC
	/* Only kernels with this name for it let a provider keep the bio. */
	if (bio) {
		int error = vpr_rs_flush_bio(dev->driver, bio);

		return error ? error : NVDIMM_FLUSH_ASYNC;
	}
#endif
	return vpr_rs_flush(dev->driver);
}

int vpr_register_region(struct vpr_device *dev, u64 start, u64 size)
{
	struct resource resource = {
		.start = start,
		.end = start + size - 1,
		.flags = IORESOURCE_MEM,
	};
	struct nd_region_desc region = {
		.res = &resource,
		.numa_node = memory_add_physaddr_to_nid(start),
		.provider_data = dev,
		.flush = vpr_flush,
	};

	dev->bus_descriptor.provider_name = "virtio-pmem";
	dev->bus_descriptor.module = THIS_MODULE;
	dev->bus = nvdimm_bus_register(&dev->vdev->dev, &dev->bus_descriptor);
	if (!dev->bus)
		return -ENXIO;
	/* Where the memory would be, were it used as such; unknown, it is where it is near. */
	region.target_node = phys_to_target_node(start);
	if (region.target_node == NUMA_NO_NODE)
		region.target_node = region.numa_node;
	/* Struct pages for DAX; a flush that is not a CPU instruction. */
	set_bit(ND_REGION_PAGEMAP, &region.flags);
	set_bit(ND_REGION_ASYNC, &region.flags);
	if (!nvdimm_pmem_region_create(dev->bus, &region)) {
		nvdimm_bus_unregister(dev->bus);
		dev->bus = NULL;
		return -ENXIO;
	}
	return 0;
}

void vpr_unregister_region(struct vpr_device *dev)
{
	nvdimm_bus_unregister(dev->bus);
	dev->bus = NULL;
}

/* The queue and the status */

static void vpr_used(struct virtqueue *queue)
{
#ifdef VPR_FAULTS
	if (vpr_fault_drop_interrupt())
		return;
#endif
	vpr_rs_used(vpr_of(queue->vdev)->driver);
}

int vpr_open_queue(struct vpr_device *dev)
{
	struct virtqueue *queue;

	queue = virtio_find_single_vq(dev->vdev, vpr_used, "flush_queue");
	if (IS_ERR(queue))
		return PTR_ERR(queue);
	dev->queue = queue;
	return 0;
}

void vpr_ready(struct vpr_device *dev)
{
	virtio_device_ready(dev->vdev);
}

void vpr_reset(struct vpr_device *dev)
{
	virtio_reset_device(dev->vdev);
}

void vpr_close_queue(struct vpr_device *dev)
{
	if (!dev->queue)
		return;
	dev->vdev->config->del_vqs(dev->vdev);
	dev->queue = NULL;
}

int vpr_add(struct vpr_device *dev, void *command, void *status,
	    unsigned long cookie)
{
	struct scatterlist out, in, *both[2] = { &out, &in };

	sg_init_one(&out, command, VPR_FIELD);
	sg_init_one(&in, status, VPR_FIELD);
	return virtqueue_add_sgs(dev->queue, both, 1, 1, (void *)cookie, GFP_ATOMIC);
}

bool vpr_kick(struct vpr_device *dev)
{
	return virtqueue_kick(dev->queue);
}

unsigned long vpr_next_used(struct vpr_device *dev, u32 *len)
{
	return (unsigned long)virtqueue_get_buf(dev->queue, len);
}

unsigned long vpr_detach(struct vpr_device *dev)
{
	return (unsigned long)virtqueue_detach_unused_buf(dev->queue);
}

bool vpr_queue_broken(struct vpr_device *dev)
{
	return virtqueue_is_broken(dev->queue);
}

u8 vpr_status(struct vpr_device *dev)
{
	return dev->vdev->config->get_status(dev->vdev);
}

/* Lock, sleep, time */

unsigned long vpr_lock(struct vpr_device *dev)
{
	unsigned long flags;

	spin_lock_irqsave(&dev->lock, flags);
	return flags;
}

void vpr_unlock(struct vpr_device *dev, unsigned long flags)
{
	spin_unlock_irqrestore(&dev->lock, flags);
}

void vpr_wait(struct vpr_device *dev, u32 queue, u64 ticks,
	      bool (*ready)(void *), void *context)
{
	long timeout = min_t(u64, ticks, MAX_SCHEDULE_TIMEOUT);

	wait_event_timeout(dev->waits[queue], ready(context), timeout);
}

void vpr_wake(struct vpr_device *dev, u32 queue)
{
	wake_up_all(&dev->waits[queue]);
}

u64 vpr_now(void)
{
	return get_jiffies_64();
}

u64 vpr_ticks(u32 milliseconds)
{
	return msecs_to_jiffies(milliseconds);
}

void vpr_arm_watchdog(struct vpr_device *dev, u64 ticks)
{
	mod_timer(&dev->watchdog, jiffies + ticks);
}

void vpr_end_watchdog(struct vpr_device *dev)
{
	timer_shutdown_sync(&dev->watchdog);
}

/* The system's sleep and end */

static int vpr_power_event(struct notifier_block *block, unsigned long event, void *data)
{
	vpr_rs_power_event(container_of(block, struct vpr_device, power)->driver, event);
	return NOTIFY_DONE;
}

static int vpr_going_down(struct notifier_block *block, unsigned long how, void *data)
{
	vpr_rs_going_down(container_of(block, struct vpr_device, reboot)->driver);
	return NOTIFY_DONE;
}

int vpr_follow_system(struct vpr_device *dev)
{
	int error;

	dev->power.notifier_call = vpr_power_event;
	dev->reboot.notifier_call = vpr_going_down;
	error = register_pm_notifier(&dev->power);
	return error ? error : register_reboot_notifier(&dev->reboot);
}

/* What was not registered does no harm here. */
void vpr_unfollow_system(struct vpr_device *dev)
{
	unregister_reboot_notifier(&dev->reboot);
	unregister_pm_notifier(&dev->power);
}

/* Or the virtio core sets FAILED again at the resume. */
void vpr_forget_failure(struct vpr_device *dev)
{
	dev->vdev->failed = false;
}

/* Bios */

struct bio *vpr_bio_next(struct bio *bio)
{
	return bio->bi_next;
}

void vpr_bio_link(struct bio *bio, struct bio *next)
{
	bio->bi_next = next;
}

void vpr_bio_end(struct bio *bio, int error)
{
	bio->bi_next = NULL;
	if (error)
		bio->bi_status = errno_to_blk_status(error);
	bio_endio(bio);
}

/* What the user sees and sets */

void vpr_say_error(struct virtio_device *vdev, const char *text)
{
	dev_err(&vdev->dev, "%s\n", text);
}

void vpr_say_warning(struct virtio_device *vdev, const char *text)
{
	dev_warn(&vdev->dev, "%s\n", text);
}

void vpr_say_region(struct virtio_device *vdev, const char *text, u64 start,
		    u64 size)
{
	dev_err(&vdev->dev, "region of 0x%llx bytes at 0x%llx: %s\n", size, start, text);
}

u32 vpr_freeze_timeout_ms(void)
{
	return READ_ONCE(freeze_timeout_ms);
}

u32 vpr_flush_timeout_ms(void)
{
	return READ_ONCE(flush_timeout_ms);
}

u32 vpr_remove_timeout_ms(void)
{
	return READ_ONCE(remove_timeout_ms);
}

/* The order is that of Counter in src/counters.rs. */
#define VPR_COUNTER(name, index) \
static ssize_t name##_show(struct device *device, struct device_attribute *attribute, char *page) \
{ \
	struct vpr_device *dev = vpr_of(dev_to_virtio(device)); \
	return sysfs_emit(page, "%llu\n", vpr_rs_counter(dev->driver, index)); \
} \
static DEVICE_ATTR_RO(name)

VPR_COUNTER(flushes, 0);
VPR_COUNTER(host_flushes, 1);
VPR_COUNTER(coalesced, 2);
VPR_COUNTER(errors, 3);
VPR_COUNTER(timeouts, 4);
VPR_COUNTER(in_flight, 5);
VPR_COUNTER(parked, 6);
VPR_COUNTER(freezes, 7);
VPR_COUNTER(freezes_in_flight, 8);
VPR_COUNTER(freezes_parked, 9);
VPR_COUNTER(freezes_called_off, 10);
VPR_COUNTER(rescued, 11);
VPR_COUNTER(resets, 12);

static ssize_t state_show(struct device *device, struct device_attribute *attribute, char *page)
{
	struct vpr_device *dev = vpr_of(dev_to_virtio(device));

	return sysfs_emit(page, "%s\n", vpr_rs_state(dev->driver));
}
static DEVICE_ATTR_RO(state);

static struct attribute *vpr_flush_attrs[] = {
	&dev_attr_flushes.attr,
	&dev_attr_host_flushes.attr,
	&dev_attr_coalesced.attr,
	&dev_attr_errors.attr,
	&dev_attr_timeouts.attr,
	&dev_attr_in_flight.attr,
	&dev_attr_parked.attr,
	&dev_attr_freezes.attr,
	&dev_attr_freezes_in_flight.attr,
	&dev_attr_freezes_parked.attr,
	&dev_attr_freezes_called_off.attr,
	&dev_attr_rescued.attr,
	&dev_attr_resets.attr,
	&dev_attr_state.attr,
	NULL
};

static const struct attribute_group vpr_flush_group = {
	.name = "flush",
	.attrs = vpr_flush_attrs,
};

static const struct attribute_group *vpr_groups[] = { &vpr_flush_group, NULL };

/* Faults, in test builds only */

#ifdef VPR_FAULTS
static atomic_t fail_kick, drop_completion, drop_interrupt, bad_request, skip_restore;
static atomic_t take_page;

static unsigned long fake_start = ULONG_MAX, fake_size = ULONG_MAX;
module_param(fake_start, ulong, 0644);
MODULE_PARM_DESC(fake_start, "the region's start, instead of the device's");
module_param(fake_size, ulong, 0644);
MODULE_PARM_DESC(fake_size, "the region's size, instead of the device's");
static int fake_offered = -1, fake_missing = -1;
module_param(fake_offered, int, 0644);
MODULE_PARM_DESC(fake_offered, "a feature bit that seems to be negotiated");
module_param(fake_missing, int, 0644);
MODULE_PARM_DESC(fake_missing, "a feature bit that seems not to be negotiated");

static int vpr_fault_set(const char *text, const struct kernel_param *param)
{
	int value, error = kstrtoint(text, 0, &value);

	if (!error)
		atomic_set(param->arg, value);
	return error;
}

static int vpr_fault_get(char *page, const struct kernel_param *param)
{
	return sysfs_emit(page, "%d\n", atomic_read((atomic_t *)param->arg));
}

static const struct kernel_param_ops vpr_fault_ops = {
	.set = vpr_fault_set,
	.get = vpr_fault_get,
};

module_param_cb(fail_kick, &vpr_fault_ops, &fail_kick, 0644);
MODULE_PARM_DESC(fail_kick, "so many of the next notifications fail");
module_param_cb(drop_completion, &vpr_fault_ops, &drop_completion, 0644);
MODULE_PARM_DESC(drop_completion, "so many of the next answers are dropped");
module_param_cb(drop_interrupt, &vpr_fault_ops, &drop_interrupt, 0644);
MODULE_PARM_DESC(drop_interrupt, "so many of the queue's next interrupts are not seen");
module_param_cb(bad_request, &vpr_fault_ops, &bad_request, 0644);
MODULE_PARM_DESC(bad_request, "so many of the next requests have no room for the status");
module_param_cb(skip_restore, &vpr_fault_ops, &skip_restore, 0644);
MODULE_PARM_DESC(skip_restore, "so many of the next resumes fail before they reach the driver");
module_param_cb(take_page, &vpr_fault_ops, &take_page, 0644);
MODULE_PARM_DESC(take_page, "so many of the next requests need a page, and can't wait for it");
MODULE_INFO(faults, "This build can break its device on purpose: for tests only.");

bool vpr_fault_fail_kick(void)
{
	return atomic_dec_if_positive(&fail_kick) >= 0;
}

bool vpr_fault_drop_completion(void)
{
	return atomic_dec_if_positive(&drop_completion) >= 0;
}

bool vpr_fault_drop_interrupt(void)
{
	return atomic_dec_if_positive(&drop_interrupt) >= 0;
}

bool vpr_fault_region(u64 *start, u64 *size)
{
	if (fake_start == ULONG_MAX && fake_size == ULONG_MAX)
		return false;
	*start = fake_start;
	*size = fake_size;
	return true;
}

void vpr_fault_features(struct virtio_device *vdev)
{
	if (fake_offered >= 0)
		__virtio_set_bit(vdev, fake_offered);
	if (fake_missing >= 0)
		__virtio_clear_bit(vdev, fake_missing);
}

bool vpr_fault_bad_request(void)
{
	return atomic_dec_if_positive(&bad_request) >= 0;
}

bool vpr_fault_skip_restore(void)
{
	return atomic_dec_if_positive(&skip_restore) >= 0;
}

bool vpr_fault_no_page(void)
{
	unsigned long page;

	if (atomic_dec_if_positive(&take_page) < 0)
		return false;
	page = __get_free_page(GFP_NOWAIT | __GFP_NOWARN);
	free_page(page);
	return !page;
}

int vpr_add_readable(struct vpr_device *dev, void *command,
		     unsigned long cookie)
{
	struct scatterlist out;

	sg_init_one(&out, command, VPR_FIELD);
	return virtqueue_add_outbuf(dev->queue, &out, 1, (void *)cookie, GFP_ATOMIC);
}
#endif

/* The driver */

static int vpr_validate(struct virtio_device *vdev)
{
	/* With it the ring would allocate a table for each request. */
	__virtio_clear_bit(vdev, VIRTIO_RING_F_INDIRECT_DESC);
	return 0;
}

static int vpr_probe(struct virtio_device *vdev)
{
#ifdef VPR_FAULTS
	vpr_fault_features(vdev);
#endif
	return vpr_rs_probe(vdev);
}

static void vpr_remove(struct virtio_device *vdev)
{
	vpr_rs_remove(vpr_of(vdev)->driver);
}

static void vpr_config_changed(struct virtio_device *vdev)
{
	vpr_rs_config_changed(vpr_of(vdev)->driver);
}

#ifdef VPR_VIRTIO_SHUTDOWN
static void vpr_shutdown(struct virtio_device *vdev)
{
	vpr_rs_shutdown(vpr_of(vdev)->driver);
}
#else
static void vpr_shutdown(struct device *device)
{
	struct vpr_device *dev = vpr_of(dev_to_virtio(device));

	/* The driver core asks bound devices only, so there is one. */
	vpr_rs_shutdown(dev->driver);
}
#endif

static int __maybe_unused vpr_freeze(struct virtio_device *vdev)
{
	return vpr_rs_freeze(vpr_of(vdev)->driver);
}

static int __maybe_unused vpr_restore(struct virtio_device *vdev)
{
#ifdef VPR_FAULTS
	if (vpr_fault_skip_restore())
		return -ENODEV;
#endif
	return vpr_rs_restore(vpr_of(vdev)->driver);
}

#ifdef VPR_VIRTIO_RESET
static int vpr_reset_prepare(struct virtio_device *vdev)
{
	return vpr_rs_reset_prepare(vpr_of(vdev)->driver);
}

static int vpr_reset_done(struct virtio_device *vdev)
{
	return vpr_rs_reset_done(vpr_of(vdev)->driver);
}
#endif

static const unsigned int vpr_features[] = {
	VIRTIO_PMEM_F_SHMEM_REGION,
};

static const struct virtio_device_id vpr_ids[] = {
	{ VIRTIO_ID_PMEM, VIRTIO_DEV_ANY_ID },
	{ 0 },
};
MODULE_DEVICE_TABLE(virtio, vpr_ids);

static struct virtio_driver vpr_driver = {
	.driver.name = KBUILD_MODNAME,
	.driver.dev_groups = vpr_groups,
	.feature_table = vpr_features,
	.feature_table_size = ARRAY_SIZE(vpr_features),
	.id_table = vpr_ids,
	.validate = vpr_validate,
	.probe = vpr_probe,
	.remove = vpr_remove,
	.config_changed = vpr_config_changed,
#ifdef VPR_VIRTIO_SHUTDOWN
	.shutdown = vpr_shutdown,
#else
	.driver.shutdown = vpr_shutdown,
#endif
#ifdef VPR_VIRTIO_RESET
	.reset_prepare = vpr_reset_prepare,
	.reset_done = vpr_reset_done,
#endif
#ifdef CONFIG_PM_SLEEP
	.freeze = vpr_freeze,
	.restore = vpr_restore,
#endif
};
module_virtio_driver(vpr_driver);

MODULE_DESCRIPTION("virtio-pmem driver with group commit");
MODULE_LICENSE("GPL");
MODULE_VERSION(VPR_VERSION);
