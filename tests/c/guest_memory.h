/* SPDX-License-Identifier: Apache-2.0 */
/* guest_memory.h - a region of test memory, as a VMM would make it */
#ifndef TESTS_C_GUEST_MEMORY_H
#define TESTS_C_GUEST_MEMORY_H

#include "pymigrate.h"

struct guest_memory {
	struct pmig_region region;
	struct pmig_memory *memory;
	uint8_t *hva;
	size_t size_bytes;
	int fd;
};

/* Shared memory (a memfd) or anonymous memory; fails the test on error. */
void guest_memory_open(struct guest_memory *guest, size_t size_bytes,
		       bool shared);
void guest_memory_close(struct guest_memory *guest);

/* Fill pages with bytes that differ from page to page. */
void guest_memory_fill(struct guest_memory *guest, size_t first_page,
		       size_t n_pages, uint64_t seed);

/* Pages of memory behind a shared region that are allocated now. */
size_t guest_memory_allocated_pages(const struct guest_memory *guest);

#endif
