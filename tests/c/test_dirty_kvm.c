/* SPDX-License-Identifier: Apache-2.0 */
/* The KVM trackers against a guest that writes where it is told to. */
#include <errno.h>
#include <string.h>

#include "backing.h"
#include "base/bitmap.h"
#include "dirty_round.h"
#include "kvm_guest.h"
#include "unit.h"

enum {
	LOW_BYTES = 0xa0000, /* two and a half blocks */
	HIGH_BYTES = 32 << 20,
	HIGH_GPA = 0x1000000,
	LOW_BLOCKS = 3,
	HIGH_BLOCKS = HIGH_BYTES / PMIG_BLOCK_BYTES,
	N_BLOCKS = LOW_BLOCKS + HIGH_BLOCKS,
	RING_BYTES = 65536,
	SMALL_RING_BYTES = 8192,
};

static struct pmig_error err;

/* Two regions, the second one split in two slots, and a tracker. */
struct bed {
	struct backed low;
	struct backed high;
	struct kvm_guest guest;
	struct pmig_memory *memory;
	struct pmig_dirty *dirty;
};

/**
 * struct tracker_case - a tracker to be tested
 */
struct tracker_case {
	enum pmig_tracker tracker;
	uint32_t flags;
	uint32_t ring_bytes;
};

static const struct tracker_case manual_case = {
	.tracker = PMIG_TRACKER_KVM_LOG,
};
static const struct tracker_case get_case = {
	.tracker = PMIG_TRACKER_KVM_LOG,
	.flags = PMIG_DIRTY_NO_MANUAL_PROTECT,
};
static const struct tracker_case ring_case = {
	.tracker = PMIG_TRACKER_KVM_RING,
	.ring_bytes = RING_BYTES,
};
static const struct tracker_case small_ring_case = {
	.tracker = PMIG_TRACKER_KVM_RING,
	.ring_bytes = SMALL_RING_BYTES,
	.flags = PMIG_DIRTY_NO_REAPER,
};

static void bed_open(struct bed *bed, const struct tracker_case *tracker,
		     enum backing backing)
{
	struct pmig_dirty_config config;
	struct pmig_region regions[2];

	kvm_guest_open(&bed->guest, tracker->ring_bytes);
	backing_map(&bed->low, BACKING_ANONYMOUS, LOW_BYTES);
	backing_map(&bed->high, backing, HIGH_BYTES);
	bed->high.region.gpa = HIGH_GPA;
	regions[0] = bed->low.region;
	regions[1] = bed->high.region;
	CHECK_OK(pmig_memory_new(regions, 2, &bed->memory, &err), err);
	kvm_guest_add_slot(&bed->guest, 0, bed->low.bytes, LOW_BYTES);
	kvm_guest_add_slot(&bed->guest, HIGH_GPA, bed->high.bytes,
			   HIGH_BYTES / 2);
	kvm_guest_add_slot(&bed->guest, HIGH_GPA + HIGH_BYTES / 2,
			   bed->high.bytes + HIGH_BYTES / 2, HIGH_BYTES / 2);
	config = kvm_guest_config(&bed->guest, tracker->tracker);
	config.flags = tracker->flags;
	bed->dirty = dirty_start(bed->memory, &config);
	bed->guest.dirty = bed->dirty;
}

static void bed_close(struct bed *bed)
{
	pmig_dirty_free(bed->dirty);
	kvm_guest_close(&bed->guest);
	pmig_memory_free(bed->memory);
	backing_unmap(&bed->low);
	backing_unmap(&bed->high);
}

/* The guest writes to pages that are numbered as the bitmap numbers them. */
static void touch_pages(struct bed *bed, int vcpu, const uint64_t *pages,
			uint32_t n)
{
	uint32_t gpas[KVM_GUEST_TOUCHES];

	for (uint32_t i = 0; i < n; i++) {
		uint64_t high = pages[i] - LOW_BLOCKS * 64;

		gpas[i] = (uint32_t)(pages[i] < LOW_BLOCKS * 64
					     ? pages[i] * 4096
					     : HIGH_GPA + high * 4096);
	}
	kvm_guest_touch(&bed->guest, vcpu, gpas, n);
}

/* Both ends of every block, region and slot are in here. */
static const uint64_t some_pages[] = {
	0,
	63,
	64,
	159,
	LOW_BLOCKS * 64,
	LOW_BLOCKS * 64 + 1,
	LOW_BLOCKS * 64 + 130,
	LOW_BLOCKS * 64 + 4095,
	LOW_BLOCKS * 64 + 4096,
	LOW_BLOCKS * 64 + 8191,
};

enum {
	N_SOME = sizeof(some_pages) / sizeof(some_pages[0]),
};

static void check_exact(const struct tracker_case *tracker,
			enum backing backing)
{
	uint64_t words[N_BLOCKS];
	struct pmig_view *view;
	struct bed bed;

	bed_open(&bed, tracker, backing);
	view = dirty_view(bed.dirty);
	CHECK_EQ(pmig_view_pending_pages(view), 160 + HIGH_BYTES / 4096);
	dirty_round(bed.memory, view, words);
	CHECK_EQ(pmig_bitmap_count(words, N_BLOCKS), 160 + HIGH_BYTES / 4096);
	dirty_expect(bed.memory, view, NULL, 0);
	touch_pages(&bed, 0, some_pages, N_SOME);
	dirty_expect(bed.memory, view, some_pages, N_SOME);
	dirty_expect(bed.memory, view, NULL, 0);
	/* and once more, now that every page has been protected */
	touch_pages(&bed, 1, some_pages, N_SOME);
	touch_pages(&bed, 0, some_pages, 1);
	dirty_expect(bed.memory, view, some_pages, N_SOME);
	pmig_view_free(view);
	bed_close(&bed);
}

static void test_manual_is_exact(void)
{
	check_exact(&manual_case, BACKING_MEMFD);
}

static void test_manual_is_exact_on_huge_pages(void)
{
	check_exact(&manual_case, BACKING_HUGETLB);
}

static void test_get_is_exact(void)
{
	check_exact(&get_case, BACKING_ANONYMOUS);
}

static void test_ring_is_exact(void)
{
	check_exact(&ring_case, BACKING_MEMFD);
}

/* A write between taking and the next harvest is found by that harvest. */
static void check_write_after_take(const struct tracker_case *tracker)
{
	const uint64_t page = some_pages[5];
	uint64_t words[N_BLOCKS];
	struct pmig_view *view;
	struct bed bed;

	bed_open(&bed, tracker, BACKING_MEMFD);
	view = dirty_view(bed.dirty);
	dirty_round(bed.memory, view, words);
	for (int i = 0; i < 5; i++) {
		touch_pages(&bed, 0, &page, 1);
		CHECK_OK(pmig_view_harvest(view, &err), err);
		CHECK_OK(pmig_view_rearm(view, page / 64, 1, &err), err);
		CHECK(pmig_view_take(view, page / 64) == UINT64_C(1)
								 << page % 64);
		touch_pages(&bed, 0, &page, 1);
		dirty_expect(bed.memory, view, &page, 1);
		dirty_expect(bed.memory, view, NULL, 0);
	}
	pmig_view_free(view);
	bed_close(&bed);
}

static void test_manual_write_after_take(void)
{
	check_write_after_take(&manual_case);
}

static void test_get_write_after_take(void)
{
	check_write_after_take(&get_case);
}

static void test_ring_write_after_take(void)
{
	check_write_after_take(&ring_case);
}

/*
 * The interleavings that lose a write when re-arming for one view forgets
 * what the other has not seen.
 */
static void check_two_views(const struct tracker_case *tracker)
{
	const uint64_t page = some_pages[6], block = page / 64;
	const uint64_t bit = UINT64_C(1) << page % 64;
	uint64_t words[N_BLOCKS];
	struct pmig_view *a, *b;
	struct bed bed;

	bed_open(&bed, tracker, BACKING_MEMFD);
	a = dirty_view(bed.dirty);
	b = dirty_view(bed.dirty);
	dirty_round(bed.memory, a, words);
	dirty_round(bed.memory, b, words);
	/* a sees it, re-arms and takes; b has it from the same harvest */
	touch_pages(&bed, 0, &page, 1);
	dirty_expect(bed.memory, a, &page, 1);
	CHECK_OK(pmig_view_rearm(b, block, 1, &err), err);
	CHECK(pmig_view_take(b, block) == bit);
	/* written again: both must see it, whoever harvests */
	touch_pages(&bed, 0, &page, 1);
	CHECK_OK(pmig_view_harvest(b, &err), err);
	CHECK_OK(pmig_view_rearm(a, block, 1, &err), err);
	CHECK(pmig_view_take(a, block) == bit);
	touch_pages(&bed, 0, &page, 1);
	dirty_expect(bed.memory, b, &page, 1);
	dirty_expect(bed.memory, a, &page, 1);
	pmig_view_free(a);
	/* a view that comes later starts with everything */
	a = dirty_view(bed.dirty);
	CHECK_EQ(pmig_view_pending_pages(a), 160 + HIGH_BYTES / 4096);
	dirty_expect(bed.memory, b, NULL, 0);
	pmig_view_free(a);
	pmig_view_free(b);
	bed_close(&bed);
}

static void test_manual_two_views(void)
{
	check_two_views(&manual_case);
}

static void test_get_two_views(void)
{
	check_two_views(&get_case);
}

static void test_ring_two_views(void)
{
	check_two_views(&ring_case);
}

/* What is due to be re-armed can be taken by nobody. */
static void test_unarmed_is_not_taken(void)
{
	const uint64_t page = some_pages[6];
	uint64_t words[N_BLOCKS];
	struct pmig_view *view;
	struct bed bed;

	bed_open(&bed, &manual_case, BACKING_MEMFD);
	view = dirty_view(bed.dirty);
	dirty_round(bed.memory, view, words);
	touch_pages(&bed, 0, &page, 1);
	CHECK_OK(pmig_view_harvest(view, &err), err);
	CHECK(pmig_view_take(view, page / 64) == 0);
	CHECK_EQ(pmig_view_pending_pages(view), 1);
	dirty_expect(bed.memory, view, &page, 1);
	pmig_view_free(view);
	bed_close(&bed);
}

/* A re-arm that fails changes nothing, so it can be repeated. */
static void test_failed_rearm_loses_nothing(void)
{
	const uint64_t page = some_pages[6];
	uint64_t words[N_BLOCKS];
	struct pmig_view *view;
	struct bed bed;

	bed_open(&bed, &manual_case, BACKING_MEMFD);
	view = dirty_view(bed.dirty);
	dirty_round(bed.memory, view, words);
	touch_pages(&bed, 0, &page, 1);
	CHECK_OK(pmig_view_harvest(view, &err), err);
	/* somebody else ends logging: the clear has nothing to clear */
	kvm_guest_log_slot(&bed.guest, 1, false);
	CHECK(pmig_view_rearm(view, page / 64, 1, &err) < 0);
	CHECK(strstr(err.message, "KVM_CLEAR_DIRTY_LOG"));
	CHECK(pmig_view_take(view, page / 64) == 0);
	CHECK_EQ(pmig_view_pending_pages(view), 1);
	kvm_guest_log_slot(&bed.guest, 1, true);
	CHECK_OK(pmig_view_rearm(view, page / 64, 1, &err), err);
	CHECK(pmig_view_take(view, page / 64) == UINT64_C(1) << page % 64);
	pmig_view_free(view);
	bed_close(&bed);
}

/* Stopping ends logging; starting again begins with everything. */
static void check_restart(const struct tracker_case *tracker)
{
	uint64_t words[N_BLOCKS];
	struct pmig_view *view;
	struct bed bed;

	bed_open(&bed, tracker, BACKING_MEMFD);
	view = dirty_view(bed.dirty);
	dirty_round(bed.memory, view, words);
	touch_pages(&bed, 0, some_pages, N_SOME);
	for (int i = 0; i < 2; i++)
		CHECK_OK(pmig_dirty_stop(bed.dirty, &err), err);
	CHECK_EQ(pmig_view_harvest(view, &err), -EINVAL);
	touch_pages(&bed, 0, some_pages, 2);
	for (int i = 0; i < 2; i++)
		CHECK_OK(pmig_dirty_start(bed.dirty, &err), err);
	dirty_round(bed.memory, view, words);
	CHECK_EQ(pmig_bitmap_count(words, N_BLOCKS), 160 + HIGH_BYTES / 4096);
	touch_pages(&bed, 0, some_pages + 2, 3);
	dirty_expect(bed.memory, view, some_pages + 2, 3);
	pmig_view_free(view);
	bed_close(&bed);
}

static void test_manual_restart(void)
{
	check_restart(&manual_case);
}

static void test_get_restart(void)
{
	check_restart(&get_case);
}

static void test_ring_restart(void)
{
	check_restart(&ring_case);
}

/*
 * Many more pages than the ring has entries, and nobody empties it meanwhile.
 * A backend that interprets the guest overflows the ring. That shows at once,
 * or when the ring is used next, and then more is found than was written; it
 * is exact from then on.
 */
static void test_ring_full(void)
{
	static uint64_t pages[KVM_GUEST_TOUCHES];
	uint64_t words[N_BLOCKS];
	struct pmig_view *view;
	struct bed bed;

	for (uint32_t i = 0; i < KVM_GUEST_TOUCHES; i++)
		pages[i] = LOW_BLOCKS * 64 + 2 * i;
	bed_open(&bed, &small_ring_case, BACKING_MEMFD);
	view = dirty_view(bed.dirty);
	dirty_round(bed.memory, view, words);
	touch_pages(&bed, 1, pages, KVM_GUEST_TOUCHES);
	CHECK(bed.guest.ring_fulls > 0);
	dirty_expect_among(bed.memory, view, pages, KVM_GUEST_TOUCHES);
	touch_pages(&bed, 1, pages, 10);
	dirty_expect_among(bed.memory, view, pages, 10);
	for (int i = 0; i < 10; i++) {
		touch_pages(&bed, 1, pages + 100 * i, 100);
		dirty_expect(bed.memory, view, pages + 100 * i, 100);
		touch_pages(&bed, 0, pages + 7 * i, 7);
		dirty_expect(bed.memory, view, pages + 7 * i, 7);
	}
	pmig_view_free(view);
	bed_close(&bed);
}

/* A second tracker finds its place in rings that another one has used. */
static void test_ring_used_before(void)
{
	struct pmig_dirty_config config;
	uint64_t words[N_BLOCKS];
	struct pmig_view *view;
	struct bed bed;

	bed_open(&bed, &ring_case, BACKING_MEMFD);
	config = kvm_guest_config(&bed.guest, PMIG_TRACKER_KVM_RING);
	touch_pages(&bed, 0, some_pages, 3);
	for (int i = 0; i < 5; i++) {
		pmig_dirty_free(bed.dirty);
		bed.dirty = bed.guest.dirty = dirty_start(bed.memory, &config);
		view = dirty_view(bed.dirty);
		dirty_round(bed.memory, view, words);
		dirty_expect(bed.memory, view, NULL, 0);
		touch_pages(&bed, 0, some_pages, N_SOME);
		dirty_expect(bed.memory, view, some_pages, N_SOME);
		touch_pages(&bed, 1, some_pages, 2);
		pmig_view_free(view);
	}
	bed_close(&bed);
}

static void test_ring_full_without_ring(void)
{
	struct bed bed;

	bed_open(&bed, &manual_case, BACKING_MEMFD);
	CHECK_EQ(pmig_dirty_ring_full(bed.dirty, &err), -EINVAL);
	bed_close(&bed);
}

/* KVM does not see what the process itself writes; marks add that. */
static void test_marks_are_added(void)
{
	const uint64_t expected[] = {
		some_pages[1],
		LOW_BLOCKS * 64 + 9,
		LOW_BLOCKS * 64 + 10,
	};
	uint64_t words[N_BLOCKS];
	struct pmig_view *view;
	struct bed bed;

	bed_open(&bed, &manual_case, BACKING_MEMFD);
	view = dirty_view(bed.dirty);
	dirty_round(bed.memory, view, words);
	backing_poke(&bed.high, 9, 1);
	backing_poke(&bed.high, 10, 1);
	dirty_expect(bed.memory, view, NULL, 0);
	CHECK_EQ(pmig_dirty_mark(bed.dirty, HIGH_GPA + 10 * 4096 - 1, 2), 0);
	touch_pages(&bed, 0, expected, 1);
	dirty_expect(bed.memory, view, expected, 3);
	pmig_view_free(view);
	bed_close(&bed);
}

static void check_auto(uint32_t ring_bytes, uint32_t flags,
		       enum pmig_tracker expected, const char *variant)
{
	const struct tracker_case tracker = {
		.tracker = PMIG_TRACKER_AUTO,
		.flags = flags,
		.ring_bytes = ring_bytes,
	};
	struct bed bed;

	bed_open(&bed, &tracker, BACKING_MEMFD);
	CHECK_EQ(pmig_dirty_tracker(bed.dirty), expected);
	printf("# %s\n", pmig_dirty_reason(bed.dirty));
	CHECK(strstr(pmig_dirty_variant(bed.dirty), variant));
	CHECK(strlen(pmig_dirty_reason(bed.dirty)) > 20);
	bed_close(&bed);
}

static void test_auto_prefers_the_ring(void)
{
	check_auto(RING_BYTES, 0, PMIG_TRACKER_KVM_RING, "ring");
}

static void test_auto_takes_the_log(void)
{
	check_auto(0, 0, PMIG_TRACKER_KVM_LOG, "manual-protect");
}

static void test_auto_takes_plain_get(void)
{
	check_auto(0, PMIG_DIRTY_NO_MANUAL_PROTECT, PMIG_TRACKER_KVM_LOG,
		   "get");
}

static void test_slots_that_do_not_match(void)
{
	struct pmig_kvm_slot slots[3];
	struct pmig_dirty_config config;
	struct pmig_dirty *dirty;
	struct bed bed;

	bed_open(&bed, &manual_case, BACKING_MEMFD);
	memcpy(slots, bed.guest.slots, sizeof(slots));
	config = kvm_guest_config(&bed.guest, PMIG_TRACKER_KVM_LOG);
	config.slots = slots;
	slots[1].hva += 4096;
	CHECK_EQ(pmig_dirty_new(bed.memory, &config, &dirty, &err), -EINVAL);
	CHECK(strstr(err.message, "multiple of 0x40000"));
	slots[1].hva += HIGH_BYTES;
	CHECK_EQ(pmig_dirty_new(bed.memory, &config, &dirty, &err), -EINVAL);
	CHECK(strstr(err.message, "does not lie in one region"));
	slots[1] = bed.guest.slots[1];
	slots[1].size_bytes = 0;
	CHECK_EQ(pmig_dirty_new(bed.memory, &config, &dirty, &err), -EINVAL);
	/* what only KVM can refuse: the first slots are switched back */
	slots[1] = bed.guest.slots[1];
	slots[1].size_bytes *= 2;
	CHECK_OK(pmig_dirty_stop(bed.dirty, &err), err);
	CHECK_OK(pmig_dirty_new(bed.memory, &config, &dirty, &err), err);
	CHECK(pmig_dirty_start(dirty, &err) < 0);
	CHECK(strstr(err.message, "slot 1"));
	pmig_dirty_free(dirty);
	bed_close(&bed);
}

int main(void)
{
	return unit_run(
		(struct unit_test[]){UNIT(test_manual_is_exact),
				     UNIT(test_manual_is_exact_on_huge_pages),
				     UNIT(test_get_is_exact),
				     UNIT(test_ring_is_exact),
				     UNIT(test_manual_write_after_take),
				     UNIT(test_get_write_after_take),
				     UNIT(test_ring_write_after_take),
				     UNIT(test_manual_two_views),
				     UNIT(test_get_two_views),
				     UNIT(test_ring_two_views),
				     UNIT(test_unarmed_is_not_taken),
				     UNIT(test_failed_rearm_loses_nothing),
				     UNIT(test_manual_restart),
				     UNIT(test_get_restart),
				     UNIT(test_ring_restart),
				     UNIT(test_ring_full),
				     UNIT(test_ring_used_before),
				     UNIT(test_ring_full_without_ring),
				     UNIT(test_marks_are_added),
				     UNIT(test_auto_prefers_the_ring),
				     UNIT(test_auto_takes_the_log),
				     UNIT(test_auto_takes_plain_get),
				     UNIT(test_slots_that_do_not_match),
				     UNIT_END});
}
