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
	MAX_CPUS = 8192,
	CPU_WORDS = MAX_CPUS / 64,
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

bool pmig_numa_place(pthread_t thread, int node)
{
	uint64_t near[CPU_WORDS], now[CPU_WORDS];
	uint64_t any = 0, left_out = 0;
	char name[32];

	if (node < 0 || node >= MAX_NODES || !pmig_numa_matters())
		return false;
	snprintf(name, sizeof(name), "node%d/cpulist", node);
	read_list(name, near, MAX_CPUS);
	if (pthread_getaffinity_np(thread, sizeof(now), (cpu_set_t *)now))
		return false;
	for (unsigned int i = 0; i < CPU_WORDS; i++) {
		left_out |= now[i] & ~near[i];
		near[i] &= now[i];
		any |= near[i];
	}
	if (!any || !left_out)
		return false;
	return !pthread_setaffinity_np(thread, sizeof(near), (cpu_set_t *)near);
}
