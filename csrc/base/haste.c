/* SPDX-License-Identifier: Apache-2.0 */
#include "base/haste.h"

#include <sched.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* struct sched_attr of sched_setattr(2); not every C library declares it. */
struct attributes {
	uint32_t size_bytes;
	uint32_t policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t slice_ns;
	uint64_t deadline_ns;
	uint64_t period_ns;
};

/* By enum pmig_haste. The kernel takes slices of 0.1 to 100 ms. */
static const struct {
	int nice;
	uint64_t slice_ns;
} measures[] = {
	[PMIG_HASTE_FAULT] = {-10, 100 * 1000},
	[PMIG_HASTE_LINK] = {-5, 300 * 1000},
};

/* Older kernels ignore it. */
static void shorten_slice(uint64_t slice_ns)
{
	struct attributes mine = {0};

	if (syscall(SYS_sched_getattr, 0, &mine, sizeof(mine), 0) != 0 ||
	    mine.policy != SCHED_OTHER)
		return;
	mine.slice_ns = slice_ns;
	syscall(SYS_sched_setattr, 0, &mine, 0);
}

void pmig_thread_hasten(enum pmig_haste haste)
{
	/* of Linux, 0 is the calling thread, not its process */
	setpriority(PRIO_PROCESS, 0, measures[haste].nice);
	shorten_slice(measures[haste].slice_ns);
}
