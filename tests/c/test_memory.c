/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "backing.h"
#include "unit.h"

static struct pmig_error err;

/* ---- numbering -------------------------------------------------------- */

static struct pmig_region plain_region(uint64_t gpa, uint64_t size_bytes)
{
	return (struct pmig_region){
		.struct_size = sizeof(struct pmig_region),
		.kind = PMIG_REGION_RAM,
		.gpa = gpa,
		.size_bytes = size_bytes,
		.page_size_bytes = PMIG_PAGE_BYTES,
		.hva = (void *)(uintptr_t)(0x10000000 + gpa),
		.fd = -1,
		.name = "plain",
	};
}

static void test_blocks_of_regions(void)
{
	struct pmig_region regions[3] = {
		plain_region(0, 0xa0000),	    /* 160 pages: 2.5 blocks */
		plain_region(0x100000, 0x40000),    /* one block */
		plain_region(0x100000000, 0x41000), /* one and a page */
	};
	struct pmig_memory *memory;
	struct pmig_region copy;
	struct pmig_block at;

	CHECK_OK(pmig_memory_new(regions, 3, &memory, &err), err);
	CHECK_EQ(pmig_memory_regions(memory), 3);
	CHECK_EQ(pmig_memory_blocks(memory), 3 + 1 + 2);
	CHECK_EQ(pmig_memory_bytes(memory), 0xa0000 + 0x40000 + 0x41000);
	CHECK_EQ(pmig_memory_region(memory, 1, &copy), 0);
	CHECK_EQ(copy.gpa, 0x100000);
	CHECK_EQ(pmig_memory_region(memory, 3, &copy), -ENOENT);

	CHECK(pmig_memory_locate(memory, 2, &at));
	CHECK(at.map == &memory->maps[0] && at.offset_bytes == 0x80000);
	CHECK(at.valid == 0xffffffff);
	CHECK(at.hva == (uint8_t *)regions[0].hva + 0x80000);
	CHECK(pmig_memory_locate(memory, 3, &at));
	CHECK(at.map == &memory->maps[1] && !at.offset_bytes);
	CHECK(at.valid == ~UINT64_C(0));
	CHECK(pmig_memory_locate(memory, 5, &at));
	CHECK(at.map == &memory->maps[2] && at.valid == 1);
	CHECK(!pmig_memory_locate(memory, 6, &at));
	CHECK(!pmig_memory_map_of(memory, UINT64_MAX));
	pmig_memory_free(memory);
}

static void test_spans_stay_in_a_region(void)
{
	struct pmig_region regions[2] = {
		plain_region(0, 0xa0000),
		plain_region(0x100000, 0x40000),
	};
	struct pmig_memory *memory;
	struct pmig_span span;

	CHECK_OK(pmig_memory_new(regions, 2, &memory, &err), err);
	pmig_memory_span(memory, 1, 3, &span);
	CHECK_EQ(span.n_blocks, 2);
	CHECK_EQ(span.size_bytes, 0x60000);
	CHECK_EQ(span.offset_bytes, 0x40000);
	pmig_memory_span(memory, 3, 1, &span);
	CHECK(span.map == &memory->maps[1]);
	CHECK_EQ(pmig_memory_check_range(memory, 0, 4, &err), 0);
	CHECK_EQ(pmig_memory_check_range(memory, 4, 0, &err), 0);
	CHECK_EQ(pmig_memory_check_range(memory, 0, 5, &err), -EINVAL);
	CHECK_EQ(pmig_memory_check_range(memory, 5, 0, &err), -EINVAL);
	CHECK_EQ(pmig_memory_check_range(memory, 2, UINT64_MAX, &err), -EINVAL);
	pmig_memory_free(memory);
}

static void test_by_address(void)
{
	struct pmig_region regions[2] = {
		plain_region(0, 0xa0000),
		plain_region(0x100000, 0x40000),
	};
	struct pmig_memory *memory;

	CHECK_OK(pmig_memory_new(regions, 2, &memory, &err), err);
	CHECK(pmig_memory_by_gpa(memory, 0, 1) == &memory->maps[0]);
	CHECK(pmig_memory_by_gpa(memory, 0x9ffff, 1) == &memory->maps[0]);
	CHECK(!pmig_memory_by_gpa(memory, 0x9ffff, 2));
	CHECK(pmig_memory_by_gpa(memory, 0x100000, 0x40000));
	CHECK(!pmig_memory_by_gpa(memory, 0x100001, UINT64_MAX));
	CHECK(!pmig_memory_by_gpa(memory, UINT64_MAX, UINT64_MAX));
	CHECK(pmig_memory_by_hva(memory, 0x10100000, 16) == &memory->maps[1]);
	pmig_memory_free(memory);
}

/* ---- refusals --------------------------------------------------------- */

static void refuse(struct pmig_region region, const char *member)
{
	struct pmig_memory *memory;

	CHECK_EQ(pmig_memory_new(&region, 1, &memory, &err), -EINVAL);
	if (!strstr(err.message, member))
		UNIT_FAIL("\"%s\" does not name %s", err.message, member);
}

#define REFUSE(member, value)                                                  \
	do {                                                                   \
		struct pmig_region region = plain_region(0, 0x40000);          \
		region.member = value;                                         \
		refuse(region, #member);                                       \
	} while (0)

static void test_refused_regions(void)
{
	struct pmig_region shared = plain_region(0, 0x40000);

	REFUSE(struct_size, 8);
	REFUSE(kind, 9);
	REFUSE(flags, 0x80);
	REFUSE(size_bytes, 0);
	REFUSE(size_bytes, 0x40001);
	REFUSE(gpa, 0x800);
	REFUSE(gpa, UINT64_MAX - 0xfff);
	REFUSE(hva, NULL);
	REFUSE(hva, (void *)0x10000001);
	REFUSE(hva, (void *)(uintptr_t)(UINT64_MAX - 0xfff));
	REFUSE(page_size_bytes, 0);
	REFUSE(page_size_bytes, 0x3000);
	REFUSE(fd, 0);
	shared.page_size_bytes = HUGE_BYTES;
	refuse(shared, "size_bytes");
	shared.hva = (void *)(uintptr_t)0x10001000;
	refuse(shared, "hva");
	shared.page_size_bytes = PMIG_PAGE_BYTES;
	shared.flags = PMIG_REGION_SHARED;
	refuse(shared, "fd");
	shared.fd = 0;
	shared.fd_offset_bytes = UINT64_C(0x7ffffffffffff000);
	refuse(shared, "fd_offset_bytes");
	memset(shared.name, 'x', sizeof(shared.name));
	refuse(shared, "name");
}

static void test_refused_sets(void)
{
	struct pmig_region overlapping[2] = {
		plain_region(0, 0x40000),
		plain_region(0x3f000, 0x40000),
	};
	struct pmig_memory *memory;

	CHECK_EQ(pmig_memory_new(overlapping, 2, &memory, &err), -EINVAL);
	CHECK(strstr(err.message, "regions 0 and 1 overlap"));
	CHECK_EQ(pmig_memory_new(overlapping, 0, &memory, &err), -EINVAL);
	CHECK_EQ(pmig_memory_new(NULL, 1, &memory, &err), -EINVAL);
	CHECK_EQ(pmig_memory_new(overlapping, PMIG_MAX_REGIONS + 1, &memory,
				 NULL),
		 -EINVAL);
}

/* ---- holes ------------------------------------------------------------ */

static const uint64_t touched_pages[] = {0, 1, 700, 4095, 4097, 8191};

/* The small pages that a write to any of touched_pages allocates. */
static void expect_present(const struct backed *guest, uint64_t *words)
{
	uint64_t granule = guest->region.page_size_bytes / PMIG_PAGE_BYTES;

	for (size_t i = 0; i < sizeof(touched_pages) / sizeof(uint64_t); i++)
		pmig_bitmap_set(words, touched_pages[i] / granule * granule,
				granule);
}

static void check_holes(enum backing backing)
{
	struct backed guest;
	struct pmig_memory *memory;
	uint64_t found[128], expected[128] = {0}, before_bytes;

	backing_map(&guest, backing, 32 << 20);
	memory = backing_describe(&guest);
	CHECK_OK(pmig_memory_present(memory, 0, 128, found, &err), err);
	CHECK_EQ(pmig_bitmap_count(found, 128), 0);
	CHECK_EQ(backing_allocated(&guest), 0);
	for (size_t i = 0; i < sizeof(touched_pages) / sizeof(uint64_t); i++)
		backing_poke(&guest, touched_pages[i], 1);
	before_bytes = backing_allocated(&guest);
	expect_present(&guest, expected);
	CHECK_OK(pmig_memory_present(memory, 0, 128, found, &err), err);
	CHECK(!memcmp(found, expected, sizeof(found)));
	for (uint64_t block = 0; block < 128; block++) {
		CHECK_OK(pmig_memory_present(memory, block, 1, found, &err),
			 err);
		CHECK(found[0] == expected[block]);
	}
	CHECK_EQ(backing_allocated(&guest), before_bytes);
	pmig_memory_free(memory);
	backing_unmap(&guest);
}

static void test_holes_memfd(void)
{
	check_holes(BACKING_MEMFD);
}

static void test_holes_anonymous(void)
{
	check_holes(BACKING_ANONYMOUS);
}

static void test_holes_hugetlb(void)
{
	check_holes(BACKING_HUGETLB);
}

static void test_holes_hugetlb_private(void)
{
	check_holes(BACKING_HUGETLB_PRIVATE);
}

/* A read of anonymous memory maps the zero page, which is a hole still. */
static void test_zero_page_is_a_hole(void)
{
	struct backed guest;
	struct pmig_memory *memory;
	uint64_t found[4];

	backing_map(&guest, BACKING_ANONYMOUS, 1 << 20);
	CHECK(!madvise(guest.bytes, 1 << 20, MADV_NOHUGEPAGE));
	memory = backing_describe(&guest);
	if (!memory->zero_pfn)
		UNIT_SKIP("page frame numbers are hidden (CAP_SYS_ADMIN)");
	for (uint64_t page = 0; page < 256; page++)
		CHECK_EQ(*(volatile uint8_t *)(guest.bytes + page * 4096), 0);
	CHECK_OK(pmig_memory_present(memory, 0, 4, found, &err), err);
	CHECK_EQ(pmig_bitmap_count(found, 4), 0);
	pmig_memory_free(memory);
	backing_unmap(&guest);
}

/* What another process wrote is in the file, not in our page tables. */
static void check_foreign_write(enum backing backing)
{
	struct backed guest;
	struct pmig_memory *memory;
	uint64_t found[64] = {0};
	int status;
	pid_t child;

	backing_map(&guest, backing, 16 << 20);
	backing_poke(&guest, 1024, 1);
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		backing_poke(&guest, 2050, 1);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && !status);
	memory = backing_describe(&guest);
	CHECK_OK(pmig_memory_present(memory, 0, 64, found, &err), err);
	CHECK(pmig_bitmap_test(found, 1024));
	CHECK(pmig_bitmap_test(found, 2050));
	CHECK(!pmig_bitmap_test(found, 512));
	pmig_memory_free(memory);
	backing_unmap(&guest);
}

static void test_foreign_write_memfd(void)
{
	check_foreign_write(BACKING_MEMFD);
}

static void test_foreign_write_hugetlb(void)
{
	check_foreign_write(BACKING_HUGETLB);
}

static double seconds_since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - start->tv_sec) +
	       (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

/* Asked chunk by chunk, as the sender does, and all at once. */
static void check_untouched_is_cheap(enum backing backing)
{
	const uint64_t size_bytes = UINT64_C(64) << 30;
	uint64_t n_blocks = size_bytes / PMIG_BLOCK_BYTES;
	uint64_t *bitmap = calloc(n_blocks, sizeof(*bitmap));
	struct backed guest;
	struct pmig_memory *memory;
	struct timespec start;

	CHECK(bitmap);
	backing_map(&guest, backing, size_bytes);
	memory = backing_describe(&guest);
	clock_gettime(CLOCK_MONOTONIC, &start);
	CHECK_OK(pmig_memory_present(memory, 0, n_blocks, bitmap, &err), err);
	CHECK_EQ(pmig_bitmap_count(bitmap, n_blocks), 0);
	for (uint64_t block = 0; block < n_blocks; block += 64)
		CHECK_OK(pmig_memory_present(memory, block, 64, bitmap, &err),
			 err);
	printf("# 64 GiB of untouched %s memory, twice: %.3f s\n",
	       backing_names[backing], seconds_since(&start));
	CHECK(seconds_since(&start) < 20);
	CHECK_EQ(backing_allocated(&guest), 0);
	free(bitmap);
	pmig_memory_free(memory);
	backing_unmap(&guest);
}

static void test_untouched_memfd(void)
{
	check_untouched_is_cheap(BACKING_MEMFD);
}

static void test_untouched_anonymous(void)
{
	check_untouched_is_cheap(BACKING_ANONYMOUS);
}

/* ---- populate, discard, hash ------------------------------------------ */

static void check_populate_discard(enum backing backing)
{
	struct backed guest;
	struct pmig_memory *memory;
	uint64_t found[32];

	backing_map(&guest, backing, 8 << 20);
	memory = backing_describe(&guest);
	backing_poke(&guest, 600, 42);
	CHECK_OK(pmig_memory_populate(memory, 8, 16, &err), err);
	CHECK_EQ(guest.bytes[600 * 4096], 42);
	CHECK_OK(pmig_memory_present(memory, 0, 32, found, &err), err);
	CHECK_EQ(pmig_bitmap_count(found, 8), 0);
	CHECK_EQ(pmig_bitmap_count(found + 8, 16), 16 * 64);
	CHECK_EQ(pmig_bitmap_count(found + 24, 8), 0);
	CHECK_OK(pmig_memory_discard(memory, 8, 8, &err), err);
	CHECK_EQ(backing_allocated(&guest), 8 * PMIG_BLOCK_BYTES);
	CHECK_EQ(guest.bytes[600 * 4096], 0);
	CHECK_OK(pmig_memory_discard(memory, 0, 32, &err), err);
	CHECK_EQ(backing_allocated(&guest), 0);
	CHECK_OK(pmig_memory_present(memory, 0, 32, found, &err), err);
	CHECK_EQ(pmig_bitmap_count(found, 32), 0);
	CHECK_EQ(pmig_memory_populate(memory, 31, 2, &err), -EINVAL);
	CHECK_EQ(pmig_memory_discard(memory, 33, 1, &err), -EINVAL);
	pmig_memory_free(memory);
	backing_unmap(&guest);
}

static void test_populate_discard_memfd(void)
{
	check_populate_discard(BACKING_MEMFD);
}

static void test_populate_discard_anonymous(void)
{
	check_populate_discard(BACKING_ANONYMOUS);
}

static void test_populate_discard_hugetlb(void)
{
	check_populate_discard(BACKING_HUGETLB);
}

static void test_populate_discard_hugetlb_private(void)
{
	check_populate_discard(BACKING_HUGETLB_PRIVATE);
}

/*
 * One write allocates 2 MiB, which are no holes any more; a part of them can
 * be given back and comes back as zeros.
 */
static void test_transparent_huge_page(void)
{
	struct pmig_memory *memory;
	struct backed guest;
	uint64_t found[32];

	backing_map(&guest, BACKING_THP, 8 << 20);
	memory = backing_describe(&guest);
	backing_poke(&guest, 600, 42);
	if (backing_allocated(&guest) != HUGE_BYTES)
		UNIT_SKIP("THP: none is free");
	CHECK_OK(pmig_memory_present(memory, 0, 32, found, &err), err);
	CHECK_EQ(pmig_bitmap_count(found, 32), 512);
	CHECK_EQ(pmig_bitmap_count(found + 8, 8), 512);
	CHECK_OK(pmig_memory_discard(memory, 9, 2, &err), err);
	CHECK_EQ(guest.bytes[600 * 4096], 0);
	CHECK_OK(pmig_memory_present(memory, 8, 8, found, &err), err);
	CHECK_EQ(found[0], ~UINT64_C(0));
	CHECK_EQ(found[1] & ~(UINT64_C(1) << (600 % 64)), 0);
	CHECK_EQ(found[2], 0);
	CHECK_OK(pmig_memory_populate(memory, 16, 3, &err), err);
	CHECK_OK(pmig_memory_present(memory, 16, 8, found, &err), err);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(found[i], ~UINT64_C(0));
	CHECK_OK(pmig_memory_discard(memory, 0, 32, &err), err);
	CHECK_EQ(backing_allocated(&guest), 0);
	pmig_memory_free(memory);
	backing_unmap(&guest);
}

static void test_part_of_private_huge_page(void)
{
	struct backed guest;
	struct pmig_memory *memory;

	backing_map(&guest, BACKING_HUGETLB_PRIVATE, 4 << 20);
	memory = backing_describe(&guest);
	CHECK_EQ(pmig_memory_discard(memory, 1, 8, &err), -EINVAL);
	pmig_memory_free(memory);
	backing_unmap(&guest);
}

static void test_hash(void)
{
	const uint64_t size_bytes = (20 << 20) + 4096;
	uint64_t *hashes = calloc(81 * 64, sizeof(*hashes));
	struct backed guest;
	struct pmig_memory *memory;
	uint64_t expected, allocated_bytes;

	CHECK(hashes);
	memset(hashes, 0xff, 81 * 64 * sizeof(*hashes));
	backing_map(&guest, BACKING_MEMFD, size_bytes);
	memory = backing_describe(&guest);
	backing_poke(&guest, 70, 7);
	backing_poke(&guest, 71, 0); /* allocated, and zero */
	backing_poke(&guest, 5120, 9);
	allocated_bytes = backing_allocated(&guest);
	CHECK_OK(pmig_memory_hash(memory, 0, 81, hashes, &err), err);
	for (uint64_t page = 0; page < 81 * 64; page++)
		CHECK_EQ(hashes[page] != 0, page == 70 || page == 5120);
	CHECK(!pmig_page_scan(guest.bytes + 70 * 4096, &expected));
	CHECK(hashes[70] == expected);
	CHECK_EQ(backing_allocated(&guest), allocated_bytes);
	CHECK_EQ(pmig_memory_hash(memory, 80, 2, hashes, &err), -EINVAL);
	free(hashes);
	pmig_memory_free(memory);
	backing_unmap(&guest);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_blocks_of_regions),
		UNIT(test_spans_stay_in_a_region),
		UNIT(test_by_address),
		UNIT(test_refused_regions),
		UNIT(test_refused_sets),
		UNIT(test_holes_memfd),
		UNIT(test_holes_anonymous),
		UNIT(test_holes_hugetlb),
		UNIT(test_holes_hugetlb_private),
		UNIT(test_zero_page_is_a_hole),
		UNIT(test_foreign_write_memfd),
		UNIT(test_foreign_write_hugetlb),
		UNIT(test_untouched_memfd),
		UNIT(test_untouched_anonymous),
		UNIT(test_populate_discard_memfd),
		UNIT(test_populate_discard_anonymous),
		UNIT(test_populate_discard_hugetlb),
		UNIT(test_populate_discard_hugetlb_private),
		UNIT(test_transparent_huge_page),
		UNIT(test_part_of_private_huge_page),
		UNIT(test_hash),
		UNIT_END});
}
