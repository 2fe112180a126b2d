/* SPDX-License-Identifier: Apache-2.0 */
#include "base/numa.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bitmap.h"

enum {
	MAX_NODES = 1024,
	LIST_BYTES = 4096,
};

bool pmig_numa_parse_list(const char *text, uint64_t *mask, size_t n_bits)
{
	memset(mask, 0, pmig_bitmap_words(n_bits) * sizeof(*mask));
	while (*text && *text != '\n') {
		char *end;
		unsigned long first = strtoul(text, &end, 10);
		unsigned long last = first;

		if (end == text)
			return false;
		if (*end == '-') {
			text = end + 1;
			last = strtoul(text, &end, 10);
		}
		if (end == text || last < first ||
		    (*end && *end != ',' && *end != '\n'))
			return false;
		for (; first <= last && first < n_bits; first++)
			pmig_bitmap_set(mask, first, 1);
		text = *end == ',' ? end + 1 : end;
	}
	return true;
}

/* A list in a file below /sys/devices/system/node; empty when it is not. */
static void read_list(const char *name, uint64_t *mask, size_t n_bits)
{
	char path[128], text[LIST_BYTES] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/sys/devices/system/node/%s", name);
	file = fopen(path, "re");
	if (file) {
		text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
		fclose(file);
	}
	if (!pmig_numa_parse_list(text, mask, n_bits))
		memset(mask, 0, pmig_bitmap_words(n_bits) * sizeof(*mask));
}

bool pmig_numa_matters(void)
{
	uint64_t nodes[MAX_NODES / 64];

	read_list("has_memory", nodes, MAX_NODES);
	return pmig_bitmap_count(nodes, MAX_NODES / 64) > 1;
}

static int most_frequent(const int *nodes, size_t n)
{
	int best = PMIG_NUMA_UNKNOWN;
	size_t best_count = 0;

	for (size_t i = 0; i < n; i++) {
		size_t count = 0;

		for (size_t j = 0; nodes[i] >= 0 && j < n; j++)
			count += nodes[j] == nodes[i];
		if (count > best_count) {
			best_count = count;
			best = nodes[i];
		}
	}
	return best;
}

int pmig_numa_node_of(const void *const *addresses, size_t n)
{
	int nodes[PMIG_NUMA_SAMPLES];

	if (n > PMIG_NUMA_SAMPLES)
		n = PMIG_NUMA_SAMPLES;
	/* without a list of nodes to move to, it only says where pages are */
	if (syscall(SYS_move_pages, 0, n, addresses, NULL, nodes, 0))
		return PMIG_NUMA_UNKNOWN;
	return most_frequent(nodes, n);
}

/*
 * Where this thread might run before it was first placed, and where it was
 * placed last. When it is found elsewhere its owner has moved it.
 */
static _Thread_local struct {
	uint64_t home[PMIG_NUMA_CPU_WORDS];
	uint64_t placed[PMIG_NUMA_CPU_WORDS];
} mine;

bool pmig_numa_place_on(pthread_t thread,
			const uint64_t cpus[PMIG_NUMA_CPU_WORDS])
{
	uint64_t now[PMIG_NUMA_CPU_WORDS], wanted[PMIG_NUMA_CPU_WORDS];
	uint64_t any = 0;

	if (pthread_getaffinity_np(thread, sizeof(now), (cpu_set_t *)now))
		return false;
	if (memcmp(now, mine.placed, sizeof(now)) != 0)
		memcpy(mine.home, now, sizeof(now));
	for (unsigned int i = 0; i < PMIG_NUMA_CPU_WORDS; i++) {
		wanted[i] = cpus[i] & mine.home[i];
		any |= wanted[i];
	}
	if (!any || memcmp(wanted, now, sizeof(now)) == 0 ||
	    pthread_setaffinity_np(thread, sizeof(wanted), (cpu_set_t *)wanted))
		return false;
	memcpy(mine.placed, wanted, sizeof(wanted));
	return true;
}

bool pmig_numa_place(pthread_t thread, int node)
{
	uint64_t cpus[PMIG_NUMA_CPU_WORDS];
	char name[32];

	if (node < 0 || node >= MAX_NODES || !pmig_numa_matters())
		return false;
	snprintf(name, sizeof(name), "node%d/cpulist", node);
	read_list(name, cpus, PMIG_NUMA_CPU_WORDS * 64);
	return pmig_numa_place_on(thread, cpus);
}
