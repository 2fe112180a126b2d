/* SPDX-License-Identifier: Apache-2.0 */
/* userfaultfd write-protect, both variants, on every backing. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backing.h"
#include "base/bitmap.h"
#include "dirty_round.h"
#include "kvm_guest.h"
#include "unit.h"

enum {
	SIZE_BYTES = 32 << 20,
	N_BLOCKS = SIZE_BYTES / PMIG_BLOCK_BYTES,
	N_PAGES = SIZE_BYTES / PMIG_PAGE_BYTES,
};

static struct pmig_error err;

struct bed {
	struct backed backed;
	struct pmig_memory *memory;
	struct pmig_dirty *dirty;
};

static struct pmig_dirty_config uffd_config(uint32_t flags)
{
	return (struct pmig_dirty_config){
		.struct_size = sizeof(struct pmig_dirty_config),
		.tracker = PMIG_TRACKER_UFFD_WP,
		.vm_fd = -1,
		.uffd = -1,
		.flags = flags,
	};
}

static void bed_start(struct bed *bed, uint32_t flags)
{
	struct pmig_dirty_config config = uffd_config(flags);

	bed->memory = backing_describe(&bed->backed);
	bed->dirty = dirty_start(bed->memory, &config);
	/* without the flag the async variant, where the kernel has it */
	if (!flags && strcmp(pmig_dirty_variant(bed->dirty), "async"))
		UNIT_SKIP("no asynchronous write-protection (Linux 6.7)");
}

static void bed_open(struct bed *bed, enum backing backing, uint32_t flags)
{
	backing_map(&bed->backed, backing, SIZE_BYTES);
	bed_start(bed, flags);
}

static void bed_close(struct bed *bed)
{
	pmig_dirty_free(bed->dirty);
	pmig_memory_free(bed->memory);
	backing_unmap(&bed->backed);
}

/* The pages that are found when these are written: whole backing pages. */
static uint32_t widen(const struct bed *bed, const uint64_t *pages, uint32_t n,
		      uint64_t *wide)
{
	uint64_t granule = bed->backed.region.page_size_bytes / 4096;
	uint32_t n_wide = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint64_t first = pages[i] / granule * granule;

		if (i && first == pages[i - 1] / granule * granule)
			continue;
		for (uint64_t page = 0; page < granule; page++)
			wide[n_wide++] = first + page;
	}
	return n_wide;
}

static void expect_written(const struct bed *bed, struct pmig_view *view,
			   const uint64_t *pages, uint32_t n)
{
	uint64_t *wide = calloc(N_PAGES, sizeof(*wide));

	CHECK(wide);
	dirty_expect(bed->memory, view, wide, widen(bed, pages, n, wide));
	free(wide);
}

static void poke_all(struct bed *bed, const uint64_t *pages, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		backing_poke(&bed->backed, pages[i], (uint8_t)i + 1);
}

/* In ascending order; some of them will have been populated before. */
static const uint64_t some_pages[] = {
	0, 1, 63, 64, 600, 4095, 4096, 5000, 5002, 8191,
};

enum {
	N_SOME = sizeof(some_pages) / sizeof(some_pages[0]),
};

static void check_exact(enum backing backing, uint32_t flags)
{
	uint64_t words[N_BLOCKS];
	struct pmig_view *view;
	struct bed bed;

	backing_map(&bed.backed, backing, SIZE_BYTES);
	poke_all(&bed, some_pages, N_SOME / 2);
	bed_start(&bed, flags);
	view = dirty_view(bed.dirty);
	dirty_round(bed.memory, view, words);
	CHECK_EQ(pmig_bitmap_count(words, N_BLOCKS), N_PAGES);
	expect_written(&bed, view, NULL, 0);
	/* half of them are written as holes */
	poke_all(&bed, some_pages, N_SOME);
	expect_written(&bed, view, some_pages, N_SOME);
	expect_written(&bed, view, NULL, 0);
	poke_all(&bed, some_pages + 3, 4);
	expect_written(&bed, view, some_pages + 3, 4);
	/* written between take and the next harvest */
	poke_all(&bed, some_pages, 1);
	expect_written(&bed, view, some_pages, 1);
	pmig_view_free(view);
	bed_close(&bed);
}

static void test_async_memfd(void)
{
	check_exact(BACKING_MEMFD, 0);
}

static void test_async_anonymous(void)
{
	check_exact(BACKING_ANONYMOUS, 0);
}

static void test_async_hugetlb(void)
{
	check_exact(BACKING_HUGETLB, 0);
}

static void test_async_hugetlb_private(void)
{
	check_exact(BACKING_HUGETLB_PRIVATE, 0);
}

static void test_sync_memfd(void)
{
	check_exact(BACKING_MEMFD, PMIG_DIRTY_NO_ASYNC_WP);
}

static void test_sync_anonymous(void)
{
	check_exact(BACKING_ANONYMOUS, PMIG_DIRTY_NO_ASYNC_WP);
}

static void test_sync_hugetlb(void)
{
	check_exact(BACKING_HUGETLB, PMIG_DIRTY_NO_ASYNC_WP);
}

static void test_sync_hugetlb_private(void)
{
	check_exact(BACKING_HUGETLB_PRIVATE, PMIG_DIRTY_NO_ASYNC_WP);
}

/* A transparent huge page is split as its small pages are written. */
static void check_transparent_huge_pages(uint32_t flags)
{
	const uint64_t pages[] = {3, 511, 512, 1025};
	uint64_t words[N_BLOCKS];
	struct pmig_view *view;
	struct bed bed;

	backing_map(&bed.backed, BACKING_THP, SIZE_BYTES);
	memset(bed.backed.bytes, 1, SIZE_BYTES);
	bed_start(&bed, flags);
	view = dirty_view(bed.dirty);
	dirty_round(bed.memory, view, words);
	poke_all(&bed, pages, 4);
	dirty_expect_among(bed.memory, view, pages, 4);
	poke_all(&bed, pages, 4);
	dirty_expect_among(bed.memory, view, pages, 4);
	dirty_expect(bed.memory, view, NULL, 0);
	pmig_view_free(view);
	bed_close(&bed);
}

static void test_async_transparent_huge_pages(void)
{
	check_transparent_huge_pages(0);
}

static void test_sync_transparent_huge_pages(void)
{
	check_transparent_huge_pages(PMIG_DIRTY_NO_ASYNC_WP);
}

/* Tracking must not allocate what the guest never touched. */
static void check_holes_stay(enum backing backing, uint32_t flags)
{
	uint64_t words[N_BLOCKS], found[N_BLOCKS], allocated_bytes;
	struct pmig_view *view;
	struct bed bed;

	bed_open(&bed, backing, flags);
	view = dirty_view(bed.dirty);
	poke_all(&bed, some_pages, N_SOME);
	allocated_bytes = backing_allocated(&bed.backed);
	dirty_round(bed.memory, view, words);
	dirty_round(bed.memory, view, words);
	CHECK_OK(pmig_memory_present(bed.memory, 0, N_BLOCKS, found, &err),
		 err);
	for (uint32_t i = 0; i < N_SOME; i++)
		CHECK(pmig_bitmap_test(found, some_pages[i]));
	CHECK_EQ(pmig_bitmap_count(found, N_BLOCKS) * 4096, allocated_bytes);
	CHECK_EQ(backing_allocated(&bed.backed), allocated_bytes);
	pmig_view_free(view);
	bed_close(&bed);
}

static void test_async_holes_memfd(void)
{
	check_holes_stay(BACKING_MEMFD, 0);
}

static void test_async_holes_anonymous(void)
{
	check_holes_stay(BACKING_ANONYMOUS, 0);
}

static void test_async_holes_hugetlb(void)
{
	check_holes_stay(BACKING_HUGETLB, 0);
}

static void test_sync_holes_memfd(void)
{
	check_holes_stay(BACKING_MEMFD, PMIG_DIRTY_NO_ASYNC_WP);
}

static void test_sync_holes_anonymous(void)
{
	check_holes_stay(BACKING_ANONYMOUS, PMIG_DIRTY_NO_ASYNC_WP);
}

static void test_sync_holes_hugetlb(void)
{
	check_holes_stay(BACKING_HUGETLB, PMIG_DIRTY_NO_ASYNC_WP);
}

/* A page that was discarded and marked is tracked like any other. */
static void check_discarded(enum backing backing, uint32_t flags)
{
	const uint64_t page = 600;
	uint64_t words[N_BLOCKS];
	struct pmig_view *view;
	struct bed bed;

	bed_open(&bed, backing, flags);
	poke_all(&bed, &page, 1);
	view = dirty_view(bed.dirty);
	dirty_round(bed.memory, view, words);
	CHECK_OK(pmig_memory_discard(bed.memory, page / 64, 1, &err), err);
	CHECK_EQ(pmig_dirty_mark(bed.dirty, page / 64 * PMIG_BLOCK_BYTES,
				 PMIG_BLOCK_BYTES),
		 0);
	dirty_expect_among(bed.memory, view, &page, 1);
	poke_all(&bed, &page, 1);
	dirty_expect(bed.memory, view, &page, 1);
	pmig_view_free(view);
	bed_close(&bed);
}

static void test_async_discarded(void)
{
	check_discarded(BACKING_MEMFD, 0);
	check_discarded(BACKING_ANONYMOUS, 0);
}

static void test_sync_discarded_memfd(void)
{
	check_discarded(BACKING_MEMFD, PMIG_DIRTY_NO_ASYNC_WP);
}

static void check_two_views(uint32_t flags)
{
	const uint64_t page = 70, block = 1, bit = UINT64_C(1) << 6;
	uint64_t words[N_BLOCKS];
	struct pmig_view *a, *b;
	struct bed bed;

	bed_open(&bed, BACKING_MEMFD, flags);
	a = dirty_view(bed.dirty);
	b = dirty_view(bed.dirty);
	dirty_round(bed.memory, a, words);
	dirty_round(bed.memory, b, words);
	poke_all(&bed, &page, 1);
	dirty_expect(bed.memory, a, &page, 1);
	CHECK_OK(pmig_view_rearm(b, block, 1, &err), err);
	CHECK(pmig_view_take(b, block) == bit);
	poke_all(&bed, &page, 1);
	CHECK_OK(pmig_view_harvest(b, &err), err);
	CHECK_OK(pmig_view_rearm(a, block, 1, &err), err);
	CHECK(pmig_view_take(a, block) == bit);
	poke_all(&bed, &page, 1);
	dirty_expect(bed.memory, b, &page, 1);
	dirty_expect(bed.memory, a, &page, 1);
	pmig_view_free(a);
	pmig_view_free(b);
	bed_close(&bed);
}

static void test_async_two_views(void)
{
	check_two_views(0);
}

static void test_sync_two_views(void)
{
	check_two_views(PMIG_DIRTY_NO_ASYNC_WP);
}

static void check_restart(uint32_t flags)
{
	uint64_t words[N_BLOCKS];
	struct pmig_view *view;
	struct bed bed;

	bed_open(&bed, BACKING_MEMFD, flags);
	view = dirty_view(bed.dirty);
	dirty_round(bed.memory, view, words);
	for (int i = 0; i < 2; i++)
		CHECK_OK(pmig_dirty_stop(bed.dirty, &err), err);
	poke_all(&bed, some_pages, N_SOME);
	for (int i = 0; i < 2; i++)
		CHECK_OK(pmig_dirty_start(bed.dirty, &err), err);
	dirty_round(bed.memory, view, words);
	CHECK_EQ(pmig_bitmap_count(words, N_BLOCKS), N_PAGES);
	poke_all(&bed, some_pages, 2);
	dirty_expect(bed.memory, view, some_pages, 2);
	pmig_view_free(view);
	bed_close(&bed);
}

static void test_async_restart(void)
{
	check_restart(0);
}

static void test_sync_restart(void)
{
	check_restart(PMIG_DIRTY_NO_ASYNC_WP);
}

/* KVM faults in guest memory on behalf of the guest, in kernel mode. */
static void check_kvm_guest(uint32_t flags)
{
	const uint32_t gpas[] = {0, 70 * 4096, 5000 * 4096};
	const uint64_t pages[] = {0, 70, 5000};
	uint64_t words[N_BLOCKS];
	struct kvm_guest guest;
	struct pmig_view *view;
	struct bed bed;

	kvm_guest_open(&guest, 0);
	bed_open(&bed, BACKING_MEMFD, flags);
	kvm_guest_add_slot(&guest, 0, bed.backed.bytes, SIZE_BYTES);
	kvm_guest_touch(&guest, 0, gpas, 2);
	view = dirty_view(bed.dirty);
	dirty_round(bed.memory, view, words);
	dirty_expect(bed.memory, view, NULL, 0);
	for (int i = 0; i < 3; i++) {
		kvm_guest_touch(&guest, 0, gpas, 3);
		dirty_expect(bed.memory, view, pages, 3);
	}
	pmig_view_free(view);
	kvm_guest_close(&guest);
	bed_close(&bed);
}

static void test_async_kvm_guest(void)
{
	check_kvm_guest(0);
}

static void test_sync_kvm_guest(void)
{
	check_kvm_guest(PMIG_DIRTY_NO_ASYNC_WP);
}

/* The caller's own descriptor is used, and left open. */
static void test_caller_opens(void)
{
	struct pmig_dirty_config config = uffd_config(0);
	struct pmig_dirty *dirty;
	struct bed bed;

	config.uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (config.uffd < 0)
		UNIT_SKIP("no userfaultfd: %s", strerror(errno));
	backing_map(&bed.backed, BACKING_MEMFD, SIZE_BYTES);
	bed.memory = backing_describe(&bed.backed);
	bed.dirty = dirty_start(bed.memory, &config);
	pmig_dirty_free(bed.dirty);
	CHECK(fcntl(config.uffd, F_GETFD) >= 0);
	/* UFFDIO_API was called on it: it cannot be used once more */
	CHECK_EQ(pmig_dirty_new(bed.memory, &config, &dirty, &err), -ENOTSUP);
	CHECK(strstr(err.message, "config.uffd"));
	CHECK(fcntl(config.uffd, F_GETFD) >= 0);
	close(config.uffd);
	pmig_memory_free(bed.memory);
	backing_unmap(&bed.backed);
}

static void test_auto_takes_uffd(void)
{
	struct pmig_dirty_config config = uffd_config(0);
	struct bed bed;

	config.tracker = PMIG_TRACKER_AUTO;
	backing_map(&bed.backed, BACKING_MEMFD, SIZE_BYTES);
	bed.memory = backing_describe(&bed.backed);
	bed.dirty = dirty_start(bed.memory, &config);
	printf("# %s\n", pmig_dirty_reason(bed.dirty));
	CHECK_EQ(pmig_dirty_tracker(bed.dirty), PMIG_TRACKER_UFFD_WP);
	bed_close(&bed);
}

int main(void)
{
	return unit_run(
		(struct unit_test[]){UNIT(test_async_memfd),
				     UNIT(test_async_anonymous),
				     UNIT(test_async_hugetlb),
				     UNIT(test_async_hugetlb_private),
				     UNIT(test_sync_memfd),
				     UNIT(test_sync_anonymous),
				     UNIT(test_sync_hugetlb),
				     UNIT(test_sync_hugetlb_private),
				     UNIT(test_async_transparent_huge_pages),
				     UNIT(test_sync_transparent_huge_pages),
				     UNIT(test_async_holes_memfd),
				     UNIT(test_async_holes_anonymous),
				     UNIT(test_async_holes_hugetlb),
				     UNIT(test_sync_holes_memfd),
				     UNIT(test_sync_holes_anonymous),
				     UNIT(test_sync_holes_hugetlb),
				     UNIT(test_async_discarded),
				     UNIT(test_sync_discarded_memfd),
				     UNIT(test_async_two_views),
				     UNIT(test_sync_two_views),
				     UNIT(test_async_restart),
				     UNIT(test_sync_restart),
				     UNIT(test_async_kvm_guest),
				     UNIT(test_sync_kvm_guest),
				     UNIT(test_caller_opens),
				     UNIT(test_auto_takes_uffd),
				     UNIT_END});
}
