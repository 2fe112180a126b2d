/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that runs out of a file, with real faults, on every backing. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "restored.h"
#include "unit.h"

enum {
	MIB = 1 << 20,
};

static void check_backing(enum backing backing, uint32_t flags,
			  const struct pmig_tuning *tuning)
{
	struct pmig_faults_report report;
	struct recorded recorded;
	struct restored restored;

	recorded_make(&recorded, RECORDED_BYTES, tuning, 0);
	restored_open(&restored, backing, RECORDED_BYTES, flags, recorded.fd);
	restored_start(&restored);
	restored_run(&restored, &recorded);
	restored_wait(&restored);
	pmig_faults_report(restored.faults, &report);
	CHECK(report.remote.count > 0);
	CHECK(report.touched_pages > 0);
	restored_check_counts(&restored);
	restored_check(&restored, &recorded);
	restored_close(&restored);
	recorded_close(&recorded);
}

static void test_memfd(void)
{
	check_backing(BACKING_MEMFD, 0, NULL);
}

static void test_memfd_without_minor(void)
{
	check_backing(BACKING_MEMFD, PMIG_FAULTS_NO_MINOR, NULL);
}

static void test_anonymous(void)
{
	check_backing(BACKING_ANONYMOUS, 0, NULL);
}

static void test_thp(void)
{
	check_backing(BACKING_THP, 0, NULL);
}

static void test_hugetlb(void)
{
	check_backing(BACKING_HUGETLB, 0, NULL);
}

static void test_hugetlb_without_minor(void)
{
	check_backing(BACKING_HUGETLB, PMIG_FAULTS_NO_MINOR, NULL);
}

static void test_hugetlb_private(void)
{
	check_backing(BACKING_HUGETLB_PRIVATE, 0, NULL);
}

static void test_encodings(void)
{
	for (size_t i = 0; i < RECORDED_TUNINGS; i++)
		check_backing(i % 2 ? BACKING_MEMFD : BACKING_ANONYMOUS, 0,
			      &recorded_tunings[i]);
}

/* ---- order ------------------------------------------------------------- */

static void test_faults_are_started_first(void)
{
	struct recorded recorded;
	struct restored restored;
	struct pmig_error err;

	recorded_make(&recorded, RECORDED_BYTES, NULL, 0);
	restored_open(&restored, BACKING_ANONYMOUS, RECORDED_BYTES, 0,
		      recorded.fd);
	CHECK_OK(pmig_restore_new(restored.memory, restored.faults,
				  &restored.config, &restored.restore, &err),
		 err);
	CHECK_EQ(pmig_restore_start(restored.restore, &err), -EINVAL);
	CHECK(strstr(err.message, "pmig_faults_start"));
	CHECK_OK(pmig_faults_start(restored.faults, &err), err);
	CHECK_OK(pmig_restore_start(restored.restore, &err), err);
	CHECK_EQ(pmig_restore_start(restored.restore, &err), -EINVAL);
	restored_wait(&restored);
	restored_check(&restored, &recorded);
	restored_close(&restored);
	recorded_close(&recorded);
}

static void test_nothing_is_stored(void)
{
	struct recorded recorded;
	struct restored restored;

	recorded_open(&recorded, RECORDED_BYTES);
	recorded_connect(&recorded);
	recorded_seal(&recorded);
	restored_open(&restored, BACKING_MEMFD, RECORDED_BYTES, 0, recorded.fd);
	restored_start(&restored);
	restored_wait(&restored);
	restored_check(&restored, &recorded);
	restored_close(&restored);
	recorded_close(&recorded);
}

/* What memory held before is of no account. */
static void test_memory_is_discarded(void)
{
	struct recorded recorded;
	struct restored restored;

	recorded_make(&recorded, RECORDED_BYTES, NULL, 0);
	restored_open(&restored, BACKING_MEMFD, RECORDED_BYTES, 0, recorded.fd);
	memset(restored.backed.bytes, 0x55, RECORDED_BYTES);
	restored_start(&restored);
	restored_wait(&restored);
	restored_check(&restored, &recorded);
	restored_close(&restored);
	recorded_close(&recorded);
}

static void test_cancelled(void)
{
	struct recorded recorded;
	struct restored restored;
	struct pmig_error err;

	recorded_make(&recorded, RECORDED_BYTES, NULL, 0);
	restored_open(&restored, BACKING_ANONYMOUS, RECORDED_BYTES, 0,
		      recorded.fd);
	restored.config.flags = PMIG_RESTORE_NO_FILL;
	restored_start(&restored);
	CHECK(restored_same(&restored, &recorded, 100));
	CHECK_EQ(pmig_restore_wait(restored.restore, 1, &err), -ETIMEDOUT);
	pmig_restore_cancel(restored.restore);
	CHECK_EQ(pmig_restore_wait(restored.restore, -1, &err), -ECANCELED);
	pmig_restore_free(restored.restore);
	restored.restore = NULL;
	CHECK(pmig_faults_missing_pages(restored.faults) > RECORDED_PAGES / 2);
	restored_close(&restored);
	recorded_close(&recorded);
}

static void *wait_for_all(void *arg)
{
	struct restored *restored = arg;
	struct pmig_error err;

	return (void *)(intptr_t)pmig_restore_wait(restored->restore, -1, &err);
}

/* Midway, with a guest that faults, and somebody who waits. */
static void test_cancelled_while_it_runs(void)
{
	struct recorded recorded;
	struct restored restored;
	pthread_t thread;
	void *rc;

	recorded_make(&recorded, RECORDED_BYTES, NULL, 0);
	restored_open(&restored, BACKING_MEMFD, RECORDED_BYTES, 0, recorded.fd);
	restored.config.fill_bytes_per_s = 4 * MIB;
	restored_start(&restored);
	CHECK_EQ(pthread_create(&thread, NULL, wait_for_all, &restored), 0);
	for (uint64_t i = 0; i < RECORDED_PAGES / 8; i++)
		CHECK(restored_same(&restored, &recorded, i));
	pmig_restore_cancel(restored.restore);
	pthread_join(thread, &rc);
	CHECK_EQ((intptr_t)rc, -ECANCELED);
	restored_close(&restored);
	recorded_close(&recorded);
}

/* What the guest gave back is zeros, also when the fill comes to it. */
static void test_removed(void)
{
	const uint64_t first = 4000, n = 600;
	static const uint8_t zeros[PMIG_PAGE_BYTES];
	struct recorded recorded;
	struct restored restored;

	recorded_make(&recorded, RECORDED_BYTES, NULL, 0);
	restored_open(&restored, BACKING_ANONYMOUS, RECORDED_BYTES, 0,
		      recorded.fd);
	restored.config.fill_bytes_per_s = 64 * MIB;
	restored_start(&restored);
	CHECK_EQ(madvise(restored.backed.bytes + first * PMIG_PAGE_BYTES,
			 n * PMIG_PAGE_BYTES, MADV_DONTNEED),
		 0);
	restored_wait(&restored);
	for (uint64_t page = 0; page < RECORDED_PAGES; page++) {
		const uint8_t *bytes =
			restored.backed.bytes + page * PMIG_PAGE_BYTES;

		if (page < first || page >= first + n)
			CHECK(restored_same(&restored, &recorded, page));
		else
			CHECK(memcmp(bytes, zeros, sizeof(zeros)) == 0);
	}
	restored_close(&restored);
	recorded_close(&recorded);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_memfd),
		UNIT(test_memfd_without_minor),
		UNIT(test_anonymous),
		UNIT(test_thp),
		UNIT(test_hugetlb),
		UNIT(test_hugetlb_without_minor),
		UNIT(test_hugetlb_private),
		UNIT(test_encodings),
		UNIT(test_faults_are_started_first),
		UNIT(test_nothing_is_stored),
		UNIT(test_memory_is_discarded),
		UNIT(test_cancelled),
		UNIT(test_cancelled_while_it_runs),
		UNIT(test_removed),
		UNIT_END,
	});
}
