/* SPDX-License-Identifier: Apache-2.0 */
/* Allocation ahead of the stream: all of it, once, on every backing. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "backing.h"
#include "transfer/prefault.h"
#include "unit.h"

enum {
	MIB = 1 << 20,
	BLOCKS_PER_MIB = MIB / PMIG_BLOCK_BYTES,
};

/* A backing, and a prefault of some ranges of it. */
struct fixture {
	struct backed backed;
	struct pmig_memory *memory;
	struct event_queue events;
	struct prefault prefault;
};

static void open_fixture(struct fixture *f, enum backing backing,
			 uint64_t size_bytes)
{
	memset(f, 0, sizeof(*f));
	backing_map(&f->backed, backing, size_bytes);
	f->memory = backing_describe(&f->backed);
	CHECK_EQ(events_init(&f->events, 1), 0);
}

static void start_beside(struct fixture *f, unsigned int n_busy,
			 const struct block_range *ranges, uint32_t n_ranges)
{
	struct block_range *owned = calloc(n_ranges + 1u, sizeof(*owned));
	struct pmig_error err;

	CHECK(owned);
	for (uint32_t i = 0; i < n_ranges; i++)
		owned[i] = ranges[i];
	CHECK_OK(prefault_start(&f->prefault, f->memory, &f->events, owned,
				n_ranges, n_busy, &err),
		 err);
}

static void start(struct fixture *f, const struct block_range *ranges,
		  uint32_t n_ranges)
{
	start_beside(f, 0, ranges, n_ranges);
}

static void close_fixture(struct fixture *f)
{
	prefault_stop(&f->prefault);
	events_fini(&f->events);
	pmig_memory_free(f->memory);
	backing_unmap(&f->backed);
}

/* The one event that there is. */
static void check_populated(struct fixture *f)
{
	struct pmig_event event = {.struct_size = sizeof(event)};
	struct pmig_error err;

	CHECK_OK(events_take(&f->events, -1, &event, &err), err);
	CHECK_EQ(event.kind, PMIG_EVENT_POPULATED);
	CHECK_OK(events_take(&f->events, 0, &event, &err), err);
	CHECK_EQ(event.kind, PMIG_EVENT_NONE);
}

static void check_whole(enum backing backing, uint64_t size_bytes)
{
	struct fixture f;

	open_fixture(&f, backing, size_bytes);
	backing_poke(&f.backed, 5, 7);
	start(&f, &(struct block_range){0, pmig_memory_blocks(f.memory)}, 1);
	check_populated(&f);
	CHECK_EQ(backing_allocated(&f.backed), size_bytes);
	CHECK_EQ(f.backed.bytes[5 * PMIG_PAGE_BYTES], 7);
	close_fixture(&f);
}

static void test_memfd(void)
{
	check_whole(BACKING_MEMFD, 300 * MIB);
	check_whole(BACKING_MEMFD, 3 * MIB + PMIG_PAGE_BYTES);
}

static void test_anonymous(void)
{
	check_whole(BACKING_ANONYMOUS, 200 * MIB + PMIG_PAGE_BYTES);
}

static void test_hugetlb(void)
{
	check_whole(BACKING_HUGETLB, 80 * MIB);
}

static void test_hugetlb_private(void)
{
	check_whole(BACKING_HUGETLB_PRIVATE, 80 * MIB);
}

/* Ranges that begin and end anywhere, some of them empty. */
static void test_only_what_was_announced(void)
{
	const struct block_range ranges[] = {
		{0, 0},	 {3, 1},   {17, 70},	{87, 1},
		{88, 0}, {200, 5}, {1000, 280}, {1280, 0},
	};
	struct fixture f;

	open_fixture(&f, BACKING_MEMFD, 320 * MIB);
	start(&f, ranges, 8);
	check_populated(&f);
	CHECK_EQ(backing_allocated(&f.backed), 357ull * PMIG_BLOCK_BYTES);
	close_fixture(&f);
}

static void test_nothing_announced(void)
{
	struct fixture f;

	open_fixture(&f, BACKING_MEMFD, MIB);
	start(&f, NULL, 0);
	check_populated(&f);
	CHECK_EQ(backing_allocated(&f.backed), 0);
	close_fixture(&f);
}

/* What the stream has passed is not allocated any more. */
static void test_passed_over(void)
{
	const uint64_t n_blocks = 256 * BLOCKS_PER_MIB;
	struct fixture f;

	open_fixture(&f, BACKING_MEMFD, 256 * MIB);
	prefault_note(&f.prefault, n_blocks - 1);
	start(&f, &(struct block_range){0, n_blocks}, 1);
	check_populated(&f);
	CHECK(backing_allocated(&f.backed) <= 8 * MIB);
	close_fixture(&f);
}

/* Nobody else needs the processors before the first page comes. */
static void test_busy_before_pages_come(void)
{
	struct fixture f;

	open_fixture(&f, BACKING_MEMFD, 64 * MIB);
	start_beside(&f, 4096, &(struct block_range){0, 64 * BLOCKS_PER_MIB},
		     1);
	check_populated(&f);
	CHECK_EQ(backing_allocated(&f.backed), 64 * MIB);
	CHECK(prefault_note(&f.prefault, 0));
	close_fixture(&f);
}

static void test_busy_with_pages(void)
{
	struct fixture f;

	open_fixture(&f, BACKING_MEMFD, 64 * MIB);
	CHECK(prefault_note(&f.prefault, 0));
	start_beside(&f, 4096, &(struct block_range){0, 64 * BLOCKS_PER_MIB},
		     1);
	check_populated(&f);
	CHECK_EQ(backing_allocated(&f.backed), 0);
	CHECK(prefault_note(&f.prefault, 1));
	close_fixture(&f);
}

static void test_processors_to_spare(void)
{
	struct fixture f;

	open_fixture(&f, BACKING_MEMFD, MIB);
	start(&f, &(struct block_range){0, BLOCKS_PER_MIB}, 1);
	CHECK(!prefault_note(&f.prefault, 0));
	check_populated(&f);
	close_fixture(&f);
}

/* A receiver that fails stops it; nobody waits for the event then. */
static void test_stop_early(void)
{
	struct fixture f;

	open_fixture(&f, BACKING_MEMFD, 256 * MIB);
	start(&f, &(struct block_range){0, 256 * BLOCKS_PER_MIB}, 1);
	close_fixture(&f);
}

static void test_stop_with_a_full_queue(void)
{
	const struct pmig_error failure = {.code = -EPIPE};
	struct fixture f;

	open_fixture(&f, BACKING_MEMFD, MIB);
	for (int i = 0; i < EVENT_QUEUE_SLOTS; i++)
		CHECK_EQ(events_populated(&f.events, NULL), 0);
	start(&f, &(struct block_range){0, BLOCKS_PER_MIB}, 1);
	events_fail(&f.events, &failure);
	close_fixture(&f);
}

static bool thp_is_off(void)
{
	FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
	char text[128] = "[never]";

	if (file) {
		if (!fgets(text, sizeof(text), file))
			text[0] = '\0';
		fclose(file);
	}
	return strstr(text, "[never]") != NULL;
}

/* AnonHugePages of this whole process. */
static uint64_t huge_bytes(void)
{
	FILE *file = fopen("/proc/self/smaps_rollup", "re");
	unsigned long long kib = 0, found = 0;
	char line[256];

	CHECK(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "AnonHugePages: %llu", &kib) == 1)
			found = kib;
	fclose(file);
	return found * 1024;
}

static void test_transparent_huge_pages_are_kept(void)
{
	const uint64_t size_bytes = 128 * MIB;
	uint64_t before;
	struct fixture f;

	if (thp_is_off())
		UNIT_SKIP("transparent huge pages are switched off");
	open_fixture(&f, BACKING_ANONYMOUS, size_bytes);
	CHECK_EQ(madvise(f.backed.bytes, size_bytes, MADV_HUGEPAGE), 0);
	before = huge_bytes();
	start(&f, &(struct block_range){0, 128 * BLOCKS_PER_MIB}, 1);
	check_populated(&f);
	CHECK_EQ(backing_allocated(&f.backed), size_bytes);
	/* but for the ends, and what a fragmented host cannot give */
	CHECK(huge_bytes() - before >= size_bytes / 2);
	close_fixture(&f);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_memfd), UNIT(test_anonymous), UNIT(test_hugetlb),
		UNIT(test_hugetlb_private), UNIT(test_only_what_was_announced),
		UNIT(test_nothing_announced), UNIT(test_passed_over),
		UNIT(test_busy_before_pages_come), UNIT(test_busy_with_pages),
		UNIT(test_processors_to_spare), UNIT(test_stop_early),
		UNIT(test_stop_with_a_full_queue),
		UNIT(test_transparent_huge_pages_are_kept), UNIT_END});
}
