/* SPDX-License-Identifier: Apache-2.0 */
/* Faults of another process, and what is left for who goes on. */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "fault/faults.h"
#include "foreign_child.h"
#include "unit.h"

enum {
	MIB = 1 << 20,
	SIZE_BYTES = 8 * MIB,
	N_PAGES = SIZE_BYTES / PMIG_PAGE_BYTES,
	N_BLOCKS = SIZE_BYTES / PMIG_BLOCK_BYTES,
	HUGE_BLOCKS = HUGE_BYTES / PMIG_BLOCK_BYTES,
	RECORD_BYTES = PMIG_FAULTS_RECORD_BYTES + N_BLOCKS * 8,
	WAIT_MS = 20000,
};

/* Both sides: the other process, and who handles its faults. */
struct foreign {
	struct foreign_child child;
	struct pmig_faults *faults;
	uint8_t *record; /* in memory that is shared */
	uint64_t *words; /* of it */
	uint8_t *block;	 /* of contents; PMIG_BLOCK_BYTES */
};

/* As another process would, with the same record. */
static void begin(struct foreign *foreign)
{
	const struct pmig_faults_config config = {
		.struct_size = sizeof(config),
		.uffd = foreign->child.uffd,
		.bases = &foreign->child.base,
		.record = foreign->record,
	};
	uint64_t all[N_BLOCKS];
	struct pmig_error err;

	memset(all, 0xff, sizeof(all));
	CHECK_OK(pmig_faults_new(foreign->child.memory, &config,
				 &foreign->faults, &err),
		 err);
	CHECK_OK(pmig_faults_expect(foreign->faults, 0, N_BLOCKS, all, &err),
		 err);
	CHECK_OK(pmig_faults_start(foreign->faults, &err), err);
}

static void stop(struct foreign *foreign)
{
	pmig_faults_free(foreign->faults);
	foreign->faults = NULL;
}

static void open_foreign(struct foreign *foreign, enum backing backing)
{
	memset(foreign, 0, sizeof(*foreign));
	foreign_open(&foreign->child, backing, SIZE_BYTES);
	foreign->block = malloc(PMIG_BLOCK_BYTES);
	foreign->record = mmap(NULL, RECORD_BYTES, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(foreign->block && foreign->record != MAP_FAILED);
	foreign->words =
		(uint64_t *)(foreign->record + PMIG_FAULTS_RECORD_BYTES);
	memset(foreign->words, 0xff, N_BLOCKS * 8);
	begin(foreign);
}

static void close_foreign(struct foreign *foreign)
{
	stop(foreign);
	foreign_close(&foreign->child);
	munmap(foreign->record, RECORD_BYTES);
	free(foreign->block);
}

static void fill_page(uint8_t *page, uint64_t number)
{
	uint64_t *words = (uint64_t *)page;

	for (unsigned int i = 0; i < PMIG_PAGE_BYTES / 8; i++)
		words[i] = (number * 512 + i + 1) * 0x9e3779b97f4a7c15u;
}

static uint64_t sum_of(uint64_t number)
{
	uint64_t page[PMIG_PAGE_BYTES / 8];

	fill_page((uint8_t *)page, number);
	return foreign_sum(page);
}

/* Pages of a block come from the source, because they were asked for or not. */
static int try_to_land(struct foreign *foreign, uint64_t number, uint64_t pages,
		       bool answer)
{
	struct pmig_block block;
	struct pmig_error err;
	struct landed landed;

	CHECK(pmig_memory_locate(foreign->child.memory, number, &block));
	landed = (struct landed){
		.block = &block,
		.number = number,
		.pages = faults_missing(foreign->faults, number, pages),
		.at = foreign->block,
		.answer = answer,
	};
	for (uint64_t p = 0; p < PMIG_BLOCK_PAGES; p++)
		if (landed.pages >> p & 1)
			fill_page(foreign->block + p * PMIG_PAGE_BYTES,
				  number * PMIG_BLOCK_PAGES + p);
	return faults_land(foreign->faults, &landed, &err);
}

static int try_to_bring(struct foreign *foreign, uint64_t number,
			uint64_t pages)
{
	return try_to_land(foreign, number, pages, false);
}

static void bring(struct foreign *foreign, uint64_t first, uint64_t n)
{
	for (uint64_t i = first; i < first + n; i++)
		CHECK_EQ(try_to_bring(foreign, i, ~UINT64_C(0)), 0);
}

static uint64_t sum_there(struct foreign *foreign, uint64_t page)
{
	return foreign_do(&foreign->child, FOREIGN_READ, page, 1);
}

static void check_pages(struct foreign *foreign, uint64_t first, uint64_t n)
{
	for (uint64_t page = first; page < first + n; page++)
		CHECK_EQ(sum_there(foreign, page), sum_of(page));
}

static void check_zeros(struct foreign *foreign, uint64_t first, uint64_t n)
{
	for (uint64_t page = first; page < first + n; page++)
		CHECK_EQ(sum_there(foreign, page), 0);
}

/* A handler may be at it. */
static uint64_t recorded(const struct foreign *foreign, uint64_t block)
{
	return pmig_bits_load(&foreign->words[block]);
}

static void wait_complete(struct foreign *foreign)
{
	struct pmig_error err;

	CHECK_OK(pmig_faults_wait(foreign->faults, WAIT_MS, &err), err);
}

/* ---- pages ------------------------------------------------------------- */

static void check_all_come(enum backing backing)
{
	struct foreign foreign;

	open_foreign(&foreign, backing);
	foreign_tell(&foreign.child, FOREIGN_READ, 77, 1);
	CHECK(foreign_is_busy(&foreign.child));
	bring(&foreign, 0, N_BLOCKS);
	CHECK_EQ(foreign_answer(&foreign.child), sum_of(77));
	wait_complete(&foreign);
	check_pages(&foreign, 0, N_PAGES);
	/* memory is as any other from now on, and needs nobody */
	stop(&foreign);
	CHECK_EQ(foreign_do(&foreign.child, FOREIGN_REMOVE, 0, 512), 0);
	check_zeros(&foreign, 0, 512);
	check_pages(&foreign, 512, 64);
	close_foreign(&foreign);
}

static void test_all_come(void)
{
	check_all_come(BACKING_ANONYMOUS);
}

static void test_all_come_in_huge_pages(void)
{
	check_all_come(BACKING_HUGETLB_PRIVATE);
}

static void test_all_come_to_thp(void)
{
	check_all_come(BACKING_THP);
}

/* A run that crosses the end of a mapping is refused by the kernel. */
static void test_split_mappings(void)
{
	static const uint64_t splits[][2] = {
		{1, 1}, {10, 20}, {63, 2}, {100, 7}};
	struct foreign foreign;

	open_foreign(&foreign, BACKING_ANONYMOUS);
	for (unsigned int i = 0; i < 4; i++)
		CHECK_EQ(foreign_do(&foreign.child, FOREIGN_SPLIT, splits[i][0],
				    splits[i][1]),
			 0);
	bring(&foreign, 0, 3);
	CHECK_EQ(pmig_faults_missing_pages(foreign.faults), N_PAGES - 192);
	check_pages(&foreign, 0, 192);
	close_foreign(&foreign);
}

/* ---- removals ---------------------------------------------------------- */

static void test_removed_is_zeros(void)
{
	struct foreign foreign;

	open_foreign(&foreign, BACKING_ANONYMOUS);
	bring(&foreign, 0, 1);
	CHECK_EQ(foreign_do(&foreign.child, FOREIGN_REMOVE, 32, 64), 0);
	bring(&foreign, 0, 2);
	check_pages(&foreign, 0, 32);
	check_zeros(&foreign, 32, 64);
	check_pages(&foreign, 96, 32);
	CHECK_EQ(pmig_faults_missing_pages(foreign.faults), N_PAGES - 128);
	close_foreign(&foreign);
}

/* Half of a page of 2 MiB had come when it was given back. */
static void test_removed_huge_page_is_zeros(void)
{
	struct foreign foreign;

	open_foreign(&foreign, BACKING_HUGETLB_PRIVATE);
	bring(&foreign, 0, HUGE_BLOCKS / 2);
	bring(&foreign, HUGE_BLOCKS, HUGE_BLOCKS);
	check_pages(&foreign, 512, 10);
	CHECK_EQ(foreign_do(&foreign.child, FOREIGN_REMOVE, 0, 1024), 0);
	bring(&foreign, 0, 2 * HUGE_BLOCKS);
	check_zeros(&foreign, 0, 1024);
	bring(&foreign, 2 * HUGE_BLOCKS, N_BLOCKS - 2 * HUGE_BLOCKS);
	wait_complete(&foreign);
	check_pages(&foreign, 1024, 512);
	close_foreign(&foreign);
}

/* ---- who goes on ------------------------------------------------------- */

static void test_the_record_is_kept(void)
{
	struct foreign foreign;

	open_foreign(&foreign, BACKING_ANONYMOUS);
	CHECK_EQ(recorded(&foreign, 0), ~UINT64_C(0));
	CHECK_EQ(try_to_bring(&foreign, 0, 0xff00), 0);
	CHECK_EQ(recorded(&foreign, 0), ~UINT64_C(0xff00));
	CHECK_EQ(foreign_do(&foreign.child, FOREIGN_REMOVE, 64, 16), 0);
	/* a fault is served after the removals before it */
	CHECK_EQ(sum_there(&foreign, 64), 0);
	CHECK_EQ(recorded(&foreign, 1), ~UINT64_C(0xffff));
	close_foreign(&foreign);
}

/* What came along with an answer may be here, and not in its place yet. */
static void test_the_record_of_probes(void)
{
	struct pmig_faults_report report = {.struct_size = sizeof(report)};
	struct foreign foreign;
	uint64_t left = 0;

	open_foreign(&foreign, BACKING_ANONYMOUS);
	for (uint64_t i = 0; i < 8; i++) {
		CHECK_EQ(try_to_land(&foreign, i, ~UINT64_C(0), true), 0);
		left += (uint64_t)__builtin_popcountll(recorded(&foreign, i));
	}
	pmig_faults_report(foreign.faults, &report);
	CHECK(left > 0);
	CHECK_EQ(left, report.probes);
	CHECK_EQ(report.missing_pages, N_PAGES - 8 * PMIG_BLOCK_PAGES);
	/* its first use is what places it */
	check_pages(&foreign, 0, 4 * PMIG_BLOCK_PAGES);
	for (uint64_t i = 0; i < 4; i++)
		CHECK_EQ(recorded(&foreign, i), 0);
	/* the others have to be brought again */
	stop(&foreign);
	begin(&foreign);
	CHECK(pmig_faults_missing_pages(foreign.faults) >
	      N_PAGES - 8 * PMIG_BLOCK_PAGES);
	bring(&foreign, 0, N_BLOCKS);
	wait_complete(&foreign);
	check_pages(&foreign, 0, 8 * PMIG_BLOCK_PAGES);
	close_foreign(&foreign);
}

/* Until it is placed it is all to be brought again. */
static void test_the_record_of_huge_pages(void)
{
	struct foreign foreign;

	open_foreign(&foreign, BACKING_HUGETLB_PRIVATE);
	bring(&foreign, 0, HUGE_BLOCKS - 1);
	CHECK_EQ(recorded(&foreign, 0), ~UINT64_C(0));
	bring(&foreign, HUGE_BLOCKS - 1, 1);
	for (unsigned int i = 0; i < HUGE_BLOCKS; i++)
		CHECK_EQ(recorded(&foreign, i), 0);
	CHECK_EQ(recorded(&foreign, HUGE_BLOCKS), ~UINT64_C(0));
	close_foreign(&foreign);
}

static void check_going_on(enum backing backing)
{
	struct foreign foreign;

	open_foreign(&foreign, backing);
	bring(&foreign, 0, HUGE_BLOCKS + 2);
	CHECK_EQ(foreign_do(&foreign.child, FOREIGN_REMOVE, 1024, 512), 0);
	check_zeros(&foreign, 1024, 1);
	foreign_tell(&foreign.child, FOREIGN_READ, 1900, 1);
	CHECK(foreign_is_busy(&foreign.child));
	stop(&foreign);
	begin(&foreign);
	CHECK(pmig_faults_missing_pages(foreign.faults) < N_PAGES - 512);
	bring(&foreign, 0, N_BLOCKS);
	CHECK_EQ(foreign_answer(&foreign.child), sum_of(1900));
	wait_complete(&foreign);
	check_pages(&foreign, 0, 1024);
	check_zeros(&foreign, 1024, 512);
	check_pages(&foreign, 1536, 512);
	close_foreign(&foreign);
}

static void test_going_on(void)
{
	check_going_on(BACKING_ANONYMOUS);
}

static void test_going_on_with_huge_pages(void)
{
	check_going_on(BACKING_HUGETLB_PRIVATE);
}

/* The kernel tells of a fault once; who was told of this one is gone. */
static void test_whoever_waits_is_heard_of(void)
{
	struct pmig_faults_report report;
	struct foreign foreign;
	int tries = WAIT_MS;

	open_foreign(&foreign, BACKING_ANONYMOUS);
	foreign_tell(&foreign.child, FOREIGN_READ, 1900, 1);
	CHECK(foreign_is_busy(&foreign.child));
	stop(&foreign);
	begin(&foreign);
	do {
		CHECK_EQ(pmig_faults_wait(foreign.faults, 1, NULL), -ETIMEDOUT);
		pmig_faults_report(foreign.faults, &report);
	} while (report.waiting_faults == 0 && --tries);
	CHECK_EQ(report.waiting_faults, 1);
	close_foreign(&foreign);
}

/* The kernel has told of it, and who was told did nothing more. */
static void test_a_removal_that_was_only_read(void)
{
	struct foreign foreign;
	struct uffd_msg *messages;

	open_foreign(&foreign, BACKING_ANONYMOUS);
	stop(&foreign);
	messages = (struct uffd_msg *)foreign.record;
	messages[3].event = UFFD_EVENT_REMOVE;
	messages[3].arg.remove.start =
		foreign.child.base + 70 * PMIG_PAGE_BYTES;
	messages[3].arg.remove.end = foreign.child.base + 90 * PMIG_PAGE_BYTES;
	begin(&foreign);
	CHECK_EQ(pmig_faults_missing_pages(foreign.faults), N_PAGES - 20);
	bring(&foreign, 0, N_BLOCKS);
	wait_complete(&foreign);
	check_pages(&foreign, 0, 70);
	check_zeros(&foreign, 70, 20);
	check_pages(&foreign, 90, 100);
	close_foreign(&foreign);
}

/* ---- the end ----------------------------------------------------------- */

static void test_the_other_process_ends(void)
{
	struct foreign foreign;
	struct pmig_error err;

	open_foreign(&foreign, BACKING_ANONYMOUS);
	bring(&foreign, 0, 1);
	kill(foreign.child.pid, SIGKILL);
	CHECK_EQ(waitpid(foreign.child.pid, NULL, 0), foreign.child.pid);
	CHECK_EQ(try_to_bring(&foreign, 1, ~UINT64_C(0)), -ESRCH);
	CHECK_EQ(pmig_faults_wait(foreign.faults, 1, &err), -ETIMEDOUT);
	close_foreign(&foreign);
}

static void test_a_record_is_of_another_process(void)
{
	struct foreign_child child;
	struct pmig_faults *faults;
	struct pmig_error err;
	struct pmig_faults_config config = {
		.struct_size = sizeof(config),
		.uffd = -1,
		.record = &child,
	};

	foreign_open(&child, BACKING_ANONYMOUS, SIZE_BYTES);
	CHECK_EQ(pmig_faults_new(child.memory, &config, &faults, &err),
		 -EINVAL);
	CHECK(strstr(err.message, "another process only"));
	foreign_close(&child);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_all_come),
		UNIT(test_all_come_in_huge_pages),
		UNIT(test_all_come_to_thp),
		UNIT(test_split_mappings),
		UNIT(test_removed_is_zeros),
		UNIT(test_removed_huge_page_is_zeros),
		UNIT(test_the_record_is_kept),
		UNIT(test_the_record_of_probes),
		UNIT(test_the_record_of_huge_pages),
		UNIT(test_going_on),
		UNIT(test_going_on_with_huge_pages),
		UNIT(test_whoever_waits_is_heard_of),
		UNIT(test_a_removal_that_was_only_read),
		UNIT(test_the_other_process_ends),
		UNIT(test_a_record_is_of_another_process),
		UNIT_END,
	});
}
