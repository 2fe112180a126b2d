/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cpus.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>

#include "base/error.h"

enum {
	/* the kernel's own limit, CONFIG_NR_CPUS on x86-64 */
	MAX_CPUS = 8192,
};

/* A set that is large enough for any kernel. */
struct cpu_mask {
	cpu_set_t words[MAX_CPUS / CPU_SETSIZE];
};

static void read_file(const char *path, char *text, size_t size)
{
	FILE *file = fopen(path, "re");
	size_t got = 0;

	if (file) {
		got = fread(text, 1, size - 1, file);
		fclose(file);
	}
	text[got] = '\0';
}

static unsigned int affinity(void)
{
	struct cpu_mask mask;
	int n = 0;

	if (!sched_getaffinity(0, sizeof(mask), mask.words))
		n = CPU_COUNT_S(sizeof(mask), mask.words);
	return n > 0 ? (unsigned int)n : 1;
}

unsigned int pmig_cpus_usable(void)
{
	unsigned int n = affinity();
	char membership[4096];
	unsigned int quota;

	read_file("/proc/self/cgroup", membership, sizeof(membership));
	quota = pmig_cpus_quota(membership, "/sys/fs/cgroup");
	return quota && quota < n ? quota : n;
}

static int no_such_cpu(uint32_t cpu, struct pmig_error *err)
{
	return pmig_fail(err, -EINVAL,
			 "no thread can be put on processor %" PRIu32
			 ": it does not exist, is offline, or is outside the "
			 "cpuset of this process",
			 cpu);
}

int pmig_cpus_pin(pthread_t thread, const uint32_t *cpus, uint32_t n_cpus,
		  struct pmig_error *err)
{
	struct cpu_mask mask;
	int rc;

	if (n_cpus == 0)
		return 0;
	CPU_ZERO_S(sizeof(mask), mask.words);
	for (uint32_t i = 0; i < n_cpus; i++) {
		if (cpus[i] >= MAX_CPUS)
			return no_such_cpu(cpus[i], err);
		CPU_SET_S(cpus[i], sizeof(mask), mask.words);
	}
	rc = pthread_setaffinity_np(thread, sizeof(mask), mask.words);
	if (rc == EINVAL)
		return no_such_cpu(cpus[0], err);
	/* the kernel leaves out what it does not have, without a word */
	if (!rc)
		rc = pthread_getaffinity_np(thread, sizeof(mask), mask.words);
	if (rc)
		return pmig_fail(err, -rc, "cannot choose processors");
	for (uint32_t i = 0; i < n_cpus; i++)
		if (!CPU_ISSET_S(cpus[i], sizeof(mask), mask.words))
			return no_such_cpu(cpus[i], err);
	return 0;
}
