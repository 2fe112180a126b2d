/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asynchronous write-protection where page tables do not tell it all: holes,
 * pages that only the file has, and pages that left the page tables again.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backing.h"
#include "base/bitmap.h"
#include "dirty/dirty_uffd_scan.h"
#include "dirty_round.h"
#include "unit.h"

enum {
	SIZE_BYTES = 32 << 20,
	N_BLOCKS = SIZE_BYTES / PMIG_BLOCK_BYTES,
	N_PAGES = SIZE_BYTES / PMIG_PAGE_BYTES,
	TABLE_PAGES = 512,
	STEPS = 3000,
};

#define SPARSE_BYTES (UINT64_C(4) << 30)

/* What the tracker takes the kernel to do. */
enum kernel {
	THIS_KERNEL,
	/* entries that have no page table are not listed (Linux 6.7) */
	OLDER_KERNEL,
};

struct bed {
	struct backed backed;
	struct pmig_memory *memory;
	struct pmig_dirty *dirty;
	struct pmig_view *view;
};

static void bed_track(struct bed *bed, enum kernel kernel)
{
	const struct pmig_dirty_config config = {
		.struct_size = sizeof(config),
		.tracker = PMIG_TRACKER_UFFD_WP,
		.vm_fd = -1,
		.uffd = -1,
	};

	bed->memory = backing_describe(&bed->backed);
	bed->dirty = dirty_start(bed->memory, &config);
	if (strcmp(pmig_dirty_variant(bed->dirty), "async"))
		UNIT_SKIP("no asynchronous write-protection (Linux 6.7)");
	if (kernel == OLDER_KERNEL)
		((struct uffd_async *)bed->dirty->impl)->lists_all = false;
	bed->view = dirty_view(bed->dirty);
}

static void bed_close(struct bed *bed)
{
	pmig_view_free(bed->view);
	pmig_dirty_free(bed->dirty);
	pmig_memory_free(bed->memory);
	backing_unmap(&bed->backed);
}

/* The first round, in which everything is taken. */
static void first_round(struct bed *bed)
{
	uint64_t n_blocks = pmig_memory_blocks(bed->memory);
	uint64_t *words = calloc(n_blocks, sizeof(*words));

	CHECK(words);
	dirty_round(bed->memory, bed->view, words);
	CHECK_EQ(pmig_bitmap_count(words, n_blocks), n_blocks * 64);
	free(words);
}

/* What reclaim does to a shared mapping: the file keeps the pages. */
static void unmap_pages(struct bed *bed, uint64_t first, uint64_t count)
{
	CHECK(!madvise(bed->backed.bytes + first * PMIG_PAGE_BYTES,
		       count * PMIG_PAGE_BYTES, MADV_DONTNEED));
}

static void poke_all(struct bed *bed, const uint64_t *pages, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		backing_poke(&bed->backed, pages[i], 1);
}

/* A written page is found though nothing in the page tables shows it. */
static void check_reclaimed(enum kernel kernel)
{
	const uint64_t before[] = {0, 5, 700, 4096};
	const uint64_t written[] = {5, 6, 2048, 8191};
	struct bed bed;

	backing_map(&bed.backed, BACKING_MEMFD, SIZE_BYTES);
	poke_all(&bed, before, 4);
	bed_track(&bed, kernel);
	first_round(&bed);
	poke_all(&bed, written, 4);
	unmap_pages(&bed, 0, N_PAGES);
	dirty_expect(bed.memory, bed.view, written, 4);
	dirty_expect(bed.memory, bed.view, NULL, 0);
	/* what was protected when it left stays protected */
	unmap_pages(&bed, 0, N_PAGES);
	dirty_expect(bed.memory, bed.view, NULL, 0);
	poke_all(&bed, written + 1, 2);
	dirty_expect(bed.memory, bed.view, written + 1, 2);
	bed_close(&bed);
}

static void test_reclaimed(void)
{
	check_reclaimed(THIS_KERNEL);
}

static void test_reclaimed_older_kernel(void)
{
	check_reclaimed(OLDER_KERNEL);
}

/* Pages of the file that were never mapped here are not written for ever. */
static void check_only_in_file(enum kernel kernel)
{
	const uint64_t in_file[] = {0, 1, 1024, 1025, 8191};
	struct bed bed;

	backing_map(&bed.backed, BACKING_MEMFD, SIZE_BYTES);
	for (int i = 0; i < 5; i++)
		CHECK_EQ(pwrite(bed.backed.region.fd, "x", 1,
				(off_t)(in_file[i] * PMIG_PAGE_BYTES)),
			 1);
	bed_track(&bed, kernel);
	first_round(&bed);
	dirty_expect(bed.memory, bed.view, NULL, 0);
	/* a read is no write */
	CHECK_EQ(bed.backed.bytes[1024 * PMIG_PAGE_BYTES], 'x');
	dirty_expect(bed.memory, bed.view, NULL, 0);
	poke_all(&bed, in_file + 1, 3);
	dirty_expect(bed.memory, bed.view, in_file + 1, 3);
	bed_close(&bed);
}

static void test_only_in_file(void)
{
	check_only_in_file(THIS_KERNEL);
}

static void test_only_in_file_older_kernel(void)
{
	check_only_in_file(OLDER_KERNEL);
}

static uint64_t page_table_kib(void)
{
	FILE *file = fopen("/proc/self/status", "r");
	unsigned long long kib = 0;
	char line[256];

	CHECK(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "VmPTE: %llu", &kib) == 1)
			break;
	fclose(file);
	return kib;
}

/* Tracking costs page tables where there are pages, not for each hole. */
static void check_sparse(enum backing backing, enum kernel kernel)
{
	const uint64_t touched[] = {0, 300000, 300003, 1048575};
	uint64_t before_kib, allocated_bytes;
	struct bed bed;

	backing_map(&bed.backed, backing, SPARSE_BYTES);
	poke_all(&bed, touched, 4);
	allocated_bytes = backing_allocated(&bed.backed);
	before_kib = page_table_kib();
	bed_track(&bed, kernel);
	first_round(&bed);
	dirty_expect(bed.memory, bed.view, NULL, 0);
	poke_all(&bed, touched + 1, 2);
	dirty_expect(bed.memory, bed.view, touched + 1, 2);
	/* markers for all of it would be 8 MiB */
	CHECK(page_table_kib() - before_kib < 256);
	CHECK_EQ(backing_allocated(&bed.backed), allocated_bytes);
	bed_close(&bed);
}

static void test_sparse_memfd(void)
{
	check_sparse(BACKING_MEMFD, THIS_KERNEL);
}

static void test_sparse_memfd_older_kernel(void)
{
	check_sparse(BACKING_MEMFD, OLDER_KERNEL);
}

static void test_sparse_anonymous(void)
{
	check_sparse(BACKING_ANONYMOUS, THIS_KERNEL);
}

/* xorshift64 (Marsaglia 2003) */
static uint64_t random_below(uint64_t *state, uint64_t limit)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state % limit;
}

/**
 * struct model - what may and what must be found
 * @written:	since the last round
 * @read:	since the last round; a read may map a page unprotected
 */
struct model {
	uint64_t written[N_BLOCKS];
	uint64_t read[N_BLOCKS];
};

static void set_bit(uint64_t *words, uint64_t page)
{
	words[page / 64] |= UINT64_C(1) << (page % 64);
}

static void check_round(struct bed *bed, struct model *model)
{
	uint64_t words[N_BLOCKS];

	dirty_round(bed->memory, bed->view, words);
	for (int i = 0; i < N_BLOCKS; i++) {
		CHECK(!(model->written[i] & ~words[i]));
		CHECK(!(words[i] & ~(model->written[i] | model->read[i])));
	}
	memset(model, 0, sizeof(*model));
}

/* Mostly close to other pages, so that all kinds of entries are neighbours. */
static uint64_t some_page(uint64_t *state)
{
	uint64_t spread = random_below(state, 3) ? 64 : N_PAGES;

	return (random_below(state, 8) * TABLE_PAGES * 2 +
		random_below(state, spread)) %
	       N_PAGES;
}

static void random_step(struct bed *bed, struct model *model, uint64_t *state)
{
	uint64_t page = some_page(state);
	const volatile uint8_t *byte =
		bed->backed.bytes + page * PMIG_PAGE_BYTES;

	switch (random_below(state, 16)) {
	case 0:
		check_round(bed, model);
		break;
	case 1:
		unmap_pages(bed, page / TABLE_PAGES * TABLE_PAGES, TABLE_PAGES);
		break;
	case 2:
		unmap_pages(bed, page, 1);
		break;
	case 3:
	case 4:
		(void)*byte;
		set_bit(model->read, page);
		break;
	default:
		backing_poke(&bed->backed, page, 1);
		set_bit(model->written, page);
	}
}

/* Whatever happens to the page tables, no write is lost and none invented. */
static void check_random(enum kernel kernel)
{
	uint64_t state = 0x9e3779b97f4a7c15;
	struct model model = {0};
	struct bed bed;

	backing_map(&bed.backed, BACKING_MEMFD, SIZE_BYTES);
	bed_track(&bed, kernel);
	first_round(&bed);
	for (int i = 0; i < STEPS; i++)
		random_step(&bed, &model, &state);
	check_round(&bed, &model);
	bed_close(&bed);
}

static void test_random(void)
{
	check_random(THIS_KERNEL);
}

static void test_random_older_kernel(void)
{
	check_random(OLDER_KERNEL);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_reclaimed), UNIT(test_reclaimed_older_kernel),
		UNIT(test_only_in_file), UNIT(test_only_in_file_older_kernel),
		UNIT(test_sparse_memfd), UNIT(test_sparse_memfd_older_kernel),
		UNIT(test_sparse_anonymous), UNIT(test_random),
		UNIT(test_random_older_kernel), UNIT_END});
}
