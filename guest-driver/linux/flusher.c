// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test module: kernel threads that flush a block device without pause.
 *
 * The freezer stops user programs before devices are suspended, and waits for
 * those that sleep in a flush. These threads are not frozen, so that a suspend
 * meets a device with a flush in flight and others behind it.
 *
 * Load it with the parameters below, read the counts in
 * /sys/module/flusher/parameters, unload it to end the threads.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/slab.h>

static char *device = "/dev/pmem0";
module_param(device, charp, 0444);
MODULE_PARM_DESC(device, "the block device (/dev/pmem0)");

static unsigned int threads = 4;
module_param(threads, uint, 0444);
MODULE_PARM_DESC(threads, "threads that flush (4)");

static unsigned int fua_threads;
module_param(fua_threads, uint, 0444);
MODULE_PARM_DESC(fua_threads, "threads that write one page with FUA: a flush that a bio waits for (0)");

static unsigned long fua_sector;
module_param(fua_sector, ulong, 0444);
MODULE_PARM_DESC(fua_sector, "where the first of them writes, in sectors; the others in the pages after it");

static bool preflush;
module_param(preflush, bool, 0444);
MODULE_PARM_DESC(preflush, "these writes ask for a flush before them, too, as a journal's commit does (N)");

/* What the flushes returned. */
static atomic_long_t done, eio, enodev, etimedout, other, longest_us;

static int count_get(char *page, const struct kernel_param *param)
{
	return sysfs_emit(page, "%ld\n", atomic_long_read((atomic_long_t *)param->arg));
}

static const struct kernel_param_ops count_ops = { .get = count_get };

#define COUNT(name, text) \
	module_param_cb(name, &count_ops, &name, 0444); \
	MODULE_PARM_DESC(name, text)

COUNT(done, "count: flushes that returned 0");
COUNT(eio, "count: flushes that returned -EIO");
COUNT(enodev, "count: flushes that returned -ENODEV");
COUNT(etimedout, "count: flushes that returned -ETIMEDOUT");
COUNT(other, "count: flushes that returned another error");
COUNT(longest_us, "the longest flush, in microseconds");
struct worker {
	struct task_struct *task;
	/* What it writes: the number of the write, counted from 1, and zeros. */
	struct page *page;
	sector_t sector;
};

static struct file *file;
static struct block_device *bdev;
static struct worker *workers;

static int write_through(struct worker *worker)
{
	blk_opf_t flags = REQ_OP_WRITE | REQ_SYNC | REQ_FUA | (preflush ? REQ_PREFLUSH : 0);
	struct bio *bio = bio_alloc(bdev, 1, flags, GFP_KERNEL);
	u64 *number = page_address(worker->page);
	int error;

	++*number;
	bio->bi_iter.bi_sector = worker->sector;
	__bio_add_page(bio, worker->page, PAGE_SIZE, 0);
	error = submit_bio_wait(bio);
	bio_put(bio);
	return error;
}

static void record(int error, s64 us)
{
	long longest = atomic_long_read(&longest_us);

	while (us > longest && !atomic_long_try_cmpxchg(&longest_us, &longest, us))
		;
	switch (error) {
	case 0:
		atomic_long_inc(&done);
		break;
	case -EIO:
		atomic_long_inc(&eio);
		break;
	case -ENODEV:
		atomic_long_inc(&enodev);
		break;
	case -ETIMEDOUT:
		atomic_long_inc(&etimedout);
		break;
	default:
		atomic_long_inc(&other);
	}
}

static int work(void *context)
{
	struct worker *worker = context;

	while (!kthread_should_stop()) {
		ktime_t begin = ktime_get();
		int error = worker->page ? write_through(worker) : blkdev_issue_flush(bdev);

		record(error, ktime_us_delta(ktime_get(), begin));
		/* A device that fails fast must not starve the rest of a small guest. */
		if (error)
			usleep_range(1000, 2000);
		cond_resched();
	}
	return 0;
}

static void stop(void)
{
	unsigned int i;

	for (i = 0; i < threads + fua_threads; i++) {
		if (workers[i].task)
			kthread_stop(workers[i].task);
		if (workers[i].page)
			__free_page(workers[i].page);
	}
	kfree(workers);
	fput(file);
}

static int start(struct worker *worker, unsigned int i)
{
	if (i >= threads) {
		worker->page = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!worker->page)
			return -ENOMEM;
		worker->sector = fua_sector + (i - threads) * PAGE_SECTORS;
	}
	worker->task = kthread_run(work, worker, "flusher/%u", i);
	if (IS_ERR(worker->task)) {
		int error = PTR_ERR(worker->task);

		worker->task = NULL;
		return error;
	}
	return 0;
}

static int __init flusher_init(void)
{
	unsigned int i;
	int error = 0;

	file = bdev_file_open_by_path(device, BLK_OPEN_READ | BLK_OPEN_WRITE, NULL, NULL);
	if (IS_ERR(file)) {
		pr_err("flusher: cannot open device=%s: %ld\n", device, PTR_ERR(file));
		return PTR_ERR(file);
	}
	bdev = file_bdev(file);
	workers = kcalloc(threads + fua_threads, sizeof(*workers), GFP_KERNEL);
	if (!workers) {
		fput(file);
		return -ENOMEM;
	}
	for (i = 0; i < threads + fua_threads && !error; i++)
		error = start(&workers[i], i);
	if (error)
		stop();
	return error;
}
module_init(flusher_init);

static void __exit flusher_exit(void)
{
	stop();
}
module_exit(flusher_exit);

MODULE_DESCRIPTION("Flushes a block device from kernel threads, for tests");
MODULE_LICENSE("GPL");
