/* SPDX-License-Identifier: Apache-2.0 */
/*
 * foreign_child.h - another process, whose memory faults are handled here
 *
 * It maps memory, registers it with a userfaultfd of its own, sends that, and
 * then does what it is told, one thing after the other.
 */
#ifndef TESTS_C_FOREIGN_CHILD_H
#define TESTS_C_FOREIGN_CHILD_H

#include <sys/types.h>

#include "backing.h"

enum foreign_order {
	FOREIGN_READ = 1, /* answers with foreign_sum() of a page */
	FOREIGN_REMOVE,	  /* give pages back, as a balloon does */
	FOREIGN_SPLIT,	  /* make a mapping of its own of pages */
};

/**
 * struct foreign_child - see above
 * @guest:	its memory, mapped there where it is here; untouched here
 * @memory:	the same for the library
 * @base:	its address
 * @uffd:	what it sent
 * @pid:	of it
 * @sock:	orders and answers
 */
struct foreign_child {
	struct backed guest;
	struct pmig_memory *memory;
	uint64_t base;
	int uffd;
	pid_t pid;
	int sock;
};

/* Skips the test where the kernel has no such memory. */
void foreign_open(struct foreign_child *child, enum backing backing,
		  uint64_t size_bytes);
void foreign_close(struct foreign_child *child);

/* Tell it to do something to n pages; it may have to wait for us. */
void foreign_tell(const struct foreign_child *child, enum foreign_order order,
		  uint64_t page, uint64_t n);

/* Wait until it is done; fails the test where that takes too long. */
uint64_t foreign_answer(const struct foreign_child *child);

/* Is it still at it? */
bool foreign_is_busy(const struct foreign_child *child);

/* Tell it, and wait. */
uint64_t foreign_do(const struct foreign_child *child, enum foreign_order order,
		    uint64_t page, uint64_t n);

/* What tells a page from others; 0 for zeros. */
uint64_t foreign_sum(const void *page);

#endif
