/* SPDX-License-Identifier: Apache-2.0 */
/*
 * numa.h - which node memory lies on, and threads near it
 *
 * On a machine with one node, or a kernel or a seccomp filter that does not
 * tell, nothing here does anything.
 */
#ifndef PMIG_BASE_NUMA_H
#define PMIG_BASE_NUMA_H

#include <pthread.h>
#include <stddef.h>

#include "pymigrate.h"

enum {
	PMIG_NUMA_UNKNOWN = -1,
	PMIG_NUMA_SAMPLES = 16, /* addresses asked about at a time, at most */
	PMIG_NUMA_CPU_WORDS = 128, /* of a mask of 8192 processors */
};

/* Does this machine have more than one node with memory? */
bool pmig_numa_matters(void);

/*
 * The node that holds most of the pages at n addresses (at most
 * PMIG_NUMA_SAMPLES), or PMIG_NUMA_UNKNOWN. Allocates nothing: pages that
 * are not there yet do not count.
 */
int pmig_numa_node_of(const void *const *addresses, size_t n);

/*
 * Let the calling thread run on the processors of a node, those of them where
 * it might run before it was first placed; thread is the calling one. True
 * when that changed anything; a node without such processors changes nothing.
 */
bool pmig_numa_place(pthread_t thread, int node);

/* As pmig_numa_place(), for the node whose processors are in cpus. */
bool pmig_numa_place_on(pthread_t thread,
			const uint64_t cpus[PMIG_NUMA_CPU_WORDS]);

/*
 * Read a list like "0-3,8" into a mask of n_bits; false when it is not one.
 * Numbers past the mask are left out.
 */
bool pmig_numa_parse_list(const char *text, uint64_t *mask, size_t n_bits);

#endif
