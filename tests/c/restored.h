/* SPDX-License-Identifier: Apache-2.0 */
/* restored.h - a machine that runs out of a file */
#ifndef TESTS_C_RESTORED_H
#define TESTS_C_RESTORED_H

#include "recorded.h"

/**
 * struct restored - a machine that runs out of a file
 * @config:	of the restore; set by restored_open(), may be changed
 */
struct restored {
	struct backed backed;
	struct pmig_memory *memory;
	struct pmig_faults *faults;
	struct pmig_restore_config config;
	struct pmig_restore *restore;
};

/* Memory and faults; skips the test where the kernel lacks some. */
void restored_open(struct restored *restored, enum backing backing,
		   uint64_t size_bytes, uint32_t faults_flags, int fd);

/* Make the restore, and start it. */
void restored_start(struct restored *restored);

/* Until all is there; fails the test when that takes too long. */
void restored_wait(struct restored *restored);

/* Is a page what the source has? Touches it. */
bool restored_same(const struct restored *restored,
		   const struct recorded *recorded, uint64_t page);

/* All pages are. */
void restored_check(const struct restored *restored,
		    const struct recorded *recorded);

/* Threads that look at all pages, each in an order of its own. */
void restored_run(const struct restored *restored,
		  const struct recorded *recorded);

/* Each page was placed once, for one of three reasons. */
void restored_check_counts(const struct restored *restored);

void restored_close(struct restored *restored);

#endif
