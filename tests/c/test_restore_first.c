/* SPDX-License-Identifier: Apache-2.0 */
/* Pages that are read before all others, and where they come from. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "restored.h"
#include "unit.h"

/* ---- first pages ------------------------------------------------------- */

enum {
	FIRST = 60,
};

/* Pages all over memory, none of which is zeros. */
static void choose_first(uint64_t *pages)
{
	for (uint64_t i = 0; i < FIRST; i++)
		pages[i] = (i * 1021 % RECORDED_PAGES) / 3 * 3 + 1;
}

static void wait_for_prefetch(const struct restored *restored)
{
	struct pmig_restore_report report;

	for (int i = 0; i < 20000; i++) {
		pmig_restore_report(restored->restore, &report);
		if (report.prefetch_ns)
			return;
		usleep(1000);
	}
	UNIT_FAIL("the first pages did not come");
}

/* What was prefetched does not fault; nor does what comes along with it. */
static void check_first(enum backing backing)
{
	struct pmig_faults_report faults;
	struct pmig_restore_report report;
	struct recorded recorded;
	struct restored restored;
	uint64_t pages[FIRST];

	choose_first(pages);
	recorded_make(&recorded, RECORDED_BYTES, &recorded_tunings[0], 0);
	restored_open(&restored, backing, RECORDED_BYTES, 0, recorded.fd);
	restored.config.flags = PMIG_RESTORE_NO_FILL;
	restored.config.first_pages = pages;
	restored.config.n_first_pages = FIRST;
	restored_start(&restored);
	wait_for_prefetch(&restored);
	for (int i = 0; i < FIRST; i++)
		CHECK(restored_same(&restored, &recorded, pages[i]));
	pmig_faults_report(restored.faults, &faults);
	CHECK_EQ(faults.remote.count, 0);
	CHECK_EQ(faults.touched_pages, 0);
	pmig_restore_report(restored.restore, &report);
	CHECK(report.prefetched_pages >= FIRST);
	CHECK_EQ(report.answered_pages, 0);
	CHECK_EQ(report.filled_pages, 0);
	/* nobody fills: what is touched comes all the same */
	restored_run(&restored, &recorded);
	restored_wait(&restored);
	restored_close(&restored);
	recorded_close(&recorded);
}

static void test_first_pages_anonymous(void)
{
	check_first(BACKING_ANONYMOUS);
}

static void test_first_pages_memfd(void)
{
	check_first(BACKING_MEMFD);
}

static void test_first_pages_hugetlb(void)
{
	check_first(BACKING_HUGETLB);
}

/* The list that one run gives makes the next one wait much less. */
static void test_touched_pages_are_first_pages(void)
{
	static uint64_t touched[PMIG_MAX_TOUCHED_PAGES];
	struct pmig_faults_report before, after;
	struct recorded recorded;
	struct restored restored;
	uint64_t pages[FIRST], n;

	choose_first(pages);
	recorded_make(&recorded, RECORDED_BYTES, NULL, 0);
	restored_open(&restored, BACKING_ANONYMOUS, RECORDED_BYTES, 0,
		      recorded.fd);
	restored.config.flags = PMIG_RESTORE_NO_FILL;
	restored_start(&restored);
	for (int i = 0; i < FIRST; i++)
		CHECK(restored_same(&restored, &recorded, pages[i]));
	pmig_faults_report(restored.faults, &before);
	n = pmig_faults_touched(restored.faults, touched,
				PMIG_MAX_TOUCHED_PAGES);
	CHECK(n > FIRST / 2 && n <= FIRST);
	/* the last one is counted a moment after its page is there */
	CHECK(before.remote.count <= n && before.remote.count + 1 >= n);
	for (uint64_t i = 0, k = 0; i < n; i++, k++) {
		/* in the order of their first use */
		while (k < FIRST && pages[k] != touched[i])
			k++;
		CHECK(k < FIRST);
	}
	restored_close(&restored);

	restored_open(&restored, BACKING_ANONYMOUS, RECORDED_BYTES, 0,
		      recorded.fd);
	restored.config.flags = PMIG_RESTORE_NO_FILL;
	restored.config.first_pages = touched;
	restored.config.n_first_pages = n;
	restored_start(&restored);
	wait_for_prefetch(&restored);
	for (int i = 0; i < FIRST; i++)
		CHECK(restored_same(&restored, &recorded, pages[i]));
	pmig_faults_report(restored.faults, &after);
	CHECK(3 * after.remote.count < before.remote.count);
	restored_close(&restored);
	recorded_close(&recorded);
}

static void test_first_page_past_the_end(void)
{
	const uint64_t pages[] = {0, RECORDED_PAGES};
	struct recorded recorded;
	struct restored restored;
	struct pmig_error err;

	recorded_make(&recorded, RECORDED_BYTES, NULL, 0);
	restored_open(&restored, BACKING_ANONYMOUS, RECORDED_BYTES, 0,
		      recorded.fd);
	restored.config.first_pages = pages;
	restored.config.n_first_pages = 2;
	CHECK_EQ(pmig_restore_new(restored.memory, restored.faults,
				  &restored.config, &restored.restore, &err),
		 -EINVAL);
	CHECK(strstr(err.message, "6144"));
	restored_close(&restored);
	recorded_close(&recorded);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_first_pages_anonymous),
		UNIT(test_first_pages_memfd),
		UNIT(test_first_pages_hugetlb),
		UNIT(test_touched_pages_are_first_pages),
		UNIT(test_first_page_past_the_end),
		UNIT_END,
	});
}
