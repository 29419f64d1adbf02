// SPDX-License-Identifier: GPL-2.0-only
/*
 * Preloaded into QEMU: makes each host flush take SLOW_FSYNC_MS, so that flushes
 * overlap with each other and with a suspend.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static int slowly(const char *name, int fd)
{
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
	const char *ms = getenv("SLOW_FSYNC_MS");

	if (ms)
		usleep((useconds_t)atoi(ms) * 1000);
	return real(fd);
}

int fsync(int fd)
{
	return slowly("fsync", fd);
}

int fdatasync(int fd)
{
	return slowly("fdatasync", fd);
}
