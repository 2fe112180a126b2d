/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backing.h - memory of every backing, for tests
 */
#ifndef TESTS_C_BACKING_H
#define TESTS_C_BACKING_H

#include "pymigrate.h"

enum backing {
	BACKING_MEMFD,
	BACKING_ANONYMOUS,
	BACKING_HUGETLB,	 /* a memfd of 2 MiB pages */
	BACKING_HUGETLB_PRIVATE, /* anonymous memory of 2 MiB pages */
	BACKING_THP,		 /* anonymous, transparent huge pages */
	BACKINGS,
};

enum {
	HUGE_BYTES = 2 << 20,
};

extern const char *const backing_names[BACKINGS];

/**
 * struct backed - one region that a test made
 * @region:	ready for pmig_memory_new(); gpa 0
 * @bytes:	its mapping
 */
struct backed {
	struct pmig_region region;
	uint8_t *bytes;
};

/*
 * Map size_bytes of a backing, or skip the test when the system has no huge
 * pages to give. Release it with backing_unmap().
 */
void backing_map(struct backed *guest, enum backing backing,
		 uint64_t size_bytes);
void backing_unmap(struct backed *guest);

/* Make a pmig_memory of one region. */
struct pmig_memory *backing_describe(const struct backed *guest);

/* Bytes allocated: blocks of the file, or resident pages of the mapping. */
uint64_t backing_allocated(const struct backed *guest);

/* Store a value in one page. */
void backing_poke(struct backed *guest, uint64_t page, uint8_t value);

#endif
