/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "base/error.h"
#include "memory/memory.h"

/* Linux 5.14, include/uapi/asm-generic/mman-common.h */
enum {
	PMIG_MADV_POPULATE_WRITE = 23,
};

static int each_span(const struct pmig_memory *memory, uint64_t first_block,
		     uint64_t n_blocks,
		     int (*apply)(const struct pmig_span *,
				  struct pmig_error *),
		     struct pmig_error *err)
{
	int rc;

	rc = pmig_memory_check_range(memory, first_block, n_blocks, err);
	while (!rc && n_blocks) {
		struct pmig_span span;

		pmig_memory_span(memory, first_block, n_blocks, &span);
		rc = apply(&span, err);
		first_block += span.n_blocks;
		n_blocks -= span.n_blocks;
	}
	return rc;
}

static int populate_span(const struct pmig_span *span, struct pmig_error *err)
{
	const char *name = span->map->region.name;

	if (!madvise(span->hva, span->size_bytes, PMIG_MADV_POPULATE_WRITE))
		return 0;
	if (errno == EINVAL)
		return pmig_fail(err, -ENOTSUP,
				 "region %s: memory cannot be populated, which "
				 "takes Linux 5.14 (MADV_POPULATE_WRITE)",
				 name);
	return pmig_fail_errno(err, "region %s: cannot allocate %llu bytes",
			       name, (unsigned long long)span->size_bytes);
}

static int discard_shared(const struct pmig_span *span, struct pmig_error *err)
{
	const struct pmig_region *region = &span->map->region;
	uint64_t offset = region->fd_offset_bytes + span->offset_bytes;

	if (!fallocate(region->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		       (off_t)offset, (off_t)span->size_bytes))
		return 0;
	return pmig_fail_errno(err, "region %s: cannot punch a hole",
			       region->name);
}

static int discard_private(const struct pmig_span *span, struct pmig_error *err)
{
	const struct pmig_region *region = &span->map->region;

	/* the kernel would round, and leave a part as it is */
	if ((span->offset_bytes | span->size_bytes) % region->page_size_bytes)
		return pmig_fail(err, -EINVAL,
				 "region %s: a part of a private huge page "
				 "cannot be discarded",
				 region->name);
	if (!madvise(span->hva, span->size_bytes, MADV_DONTNEED))
		return 0;
	return pmig_fail_errno(err, "region %s: cannot discard memory",
			       region->name);
}

static int discard_span(const struct pmig_span *span, struct pmig_error *err)
{
	if (span->map->region.flags & PMIG_REGION_SHARED)
		return discard_shared(span, err);
	return discard_private(span, err);
}

int pmig_memory_populate(const struct pmig_memory *memory, uint64_t first_block,
			 uint64_t n_blocks, struct pmig_error *err)
{
	return each_span(memory, first_block, n_blocks, populate_span, err);
}

int pmig_memory_discard(const struct pmig_memory *memory, uint64_t first_block,
			uint64_t n_blocks, struct pmig_error *err)
{
	return each_span(memory, first_block, n_blocks, discard_span, err);
}
