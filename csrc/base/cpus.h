/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpus.h - processors: how many there are for us, and which
 *
 * A thread inherits the affinity of the one that starts it, so everything
 * here speaks of the calling thread and of those it is about to start.
 */
#ifndef PMIG_BASE_CPUS_H
#define PMIG_BASE_CPUS_H

#include <pthread.h>
#include <stddef.h>

#include "pymigrate.h"

/*
 * Processors that threads started here can keep busy: the affinity, bounded
 * by the quota of the control group (cpu.max, rounded up). At least 1.
 */
unsigned int pmig_cpus_usable(void);

/*
 * Let a thread run on these processors only. n_cpus 0: nothing is changed.
 * -EINVAL names the first that does not exist, is offline, or is outside the
 * cpuset; the thread may then be pinned to the others.
 */
int pmig_cpus_pin(pthread_t thread, const uint32_t *cpus, uint32_t n_cpus,
		  struct pmig_error *err);

/**
 * pmig_cpus_quota() - the tightest cpu.max from a control group to the root
 * @membership:	text of /proc/self/cgroup
 * @mount:	where the unified hierarchy is mounted, "/sys/fs/cgroup"
 *
 * Return: processors, rounded up; 0 when there is no limit.
 */
unsigned int pmig_cpus_quota(const char *membership, const char *mount);

#endif
