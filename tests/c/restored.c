/* SPDX-License-Identifier: Apache-2.0 */
#include "restored.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "unit.h"

enum {
	WAIT_MS = 20000,
	READERS = 3,
};

void restored_open(struct restored *restored, enum backing backing,
		   uint64_t size_bytes, uint32_t faults_flags, int fd)
{
	const struct pmig_faults_config config = {
		.struct_size = sizeof(config),
		.flags = faults_flags,
		.n_handlers = 2,
		.uffd = -1,
	};
	struct pmig_error err;
	int rc;

	*restored = (struct restored){
		.config =
			{
				.struct_size = sizeof(restored->config),
				.fd = fd,
				.format = PMIG_RESTORE_STREAM,
			},
	};
	backing_map(&restored->backed, backing, size_bytes);
	restored->memory = backing_describe(&restored->backed);
	rc = pmig_faults_new(restored->memory, &config, &restored->faults,
			     &err);
	if (rc == -ENOTSUP)
		UNIT_SKIP("%s", err.message);
	CHECK_OK(rc, err);
}

void restored_start(struct restored *restored)
{
	struct pmig_error err;

	CHECK_OK(pmig_restore_new(restored->memory, restored->faults,
				  &restored->config, &restored->restore, &err),
		 err);
	CHECK_OK(pmig_faults_start(restored->faults, &err), err);
	CHECK_OK(pmig_restore_start(restored->restore, &err), err);
}

void restored_wait(struct restored *restored)
{
	struct pmig_error err;

	CHECK_OK(pmig_restore_wait(restored->restore, WAIT_MS, &err), err);
	CHECK_EQ(pmig_faults_missing_pages(restored->faults), 0);
}

bool restored_same(const struct restored *restored,
		   const struct recorded *recorded, uint64_t page)
{
	uint64_t at = page * PMIG_PAGE_BYTES;

	return memcmp(recorded->source.bytes + at, restored->backed.bytes + at,
		      PMIG_PAGE_BYTES) == 0;
}

void restored_check(const struct restored *restored,
		    const struct recorded *recorded)
{
	for (uint64_t page = 0; page < recorded->n_pages; page++)
		if (!restored_same(restored, recorded, page))
			UNIT_FAIL("page %llu differs",
				  (unsigned long long)page);
}

/* A thread of the guest, which looks at every page in an order of its own. */
struct guest_thread {
	const struct restored *restored;
	const struct recorded *recorded;
	pthread_t thread;
	uint64_t first;
	uint64_t step; /* no divisor of the number of pages */
	uint64_t wrong;
};

static void *look_at_pages(void *arg)
{
	struct guest_thread *guest = arg;
	uint64_t n = guest->recorded->n_pages;

	for (uint64_t i = 0; i < n; i++)
		guest->wrong +=
			!restored_same(guest->restored, guest->recorded,
				       (guest->first + i * guest->step) % n);
	return NULL;
}

void restored_run(const struct restored *restored,
		  const struct recorded *recorded)
{
	static const uint64_t steps[READERS] = {1, 1021, 4099};
	struct guest_thread threads[READERS];

	for (int i = 0; i < READERS; i++) {
		threads[i] = (struct guest_thread){
			.restored = restored,
			.recorded = recorded,
			.first = (uint64_t)i * recorded->n_pages / 5,
			.step = steps[i],
		};
		CHECK_EQ(pthread_create(&threads[i].thread, NULL, look_at_pages,
					&threads[i]),
			 0);
	}
	for (int i = 0; i < READERS; i++)
		pthread_join(threads[i].thread, NULL);
	for (int i = 0; i < READERS; i++)
		CHECK_EQ(threads[i].wrong, 0);
}

void restored_check_counts(const struct restored *restored)
{
	struct pmig_restore_report report;

	pmig_restore_report(restored->restore, &report);
	CHECK(report.stored_pages > RECORDED_PAGES / 2);
	CHECK(report.frames >= RECORDED_BYTES / PMIG_BLOCK_BYTES);
	CHECK(report.index_ns > 0);
	CHECK_EQ(report.answered_pages + report.prefetched_pages +
			 report.filled_pages,
		 report.stored_pages);
}

void restored_close(struct restored *restored)
{
	pmig_restore_free(restored->restore);
	pmig_faults_free(restored->faults);
	pmig_memory_free(restored->memory);
	backing_unmap(&restored->backed);
}
