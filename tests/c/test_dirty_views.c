/* SPDX-License-Identifier: Apache-2.0 */
/* The front end: marks, views, refusals; no kernel interface is needed. */
#include <errno.h>
#include <string.h>

#include "backing.h"
#include "base/bitmap.h"
#include "dirty/page_set.h"
#include "dirty_round.h"
#include "unit.h"

enum {
	LOW_BYTES = 0xa0000, /* two and a half blocks */
	HIGH_BYTES = 0x80000,
	N_BLOCKS = 3 + 2,
	ALL_PAGES = (LOW_BYTES + HIGH_BYTES) / PMIG_PAGE_BYTES,
};

static struct pmig_error err;

/* Two regions that touch in guest physical space, and marked ranges only. */
struct bed {
	struct backed low;
	struct backed high;
	struct pmig_memory *memory;
	struct pmig_dirty *dirty;
	unsigned int collected;
};

static struct pmig_dirty_config marked_config(void)
{
	return (struct pmig_dirty_config){
		.struct_size = sizeof(struct pmig_dirty_config),
		.tracker = PMIG_TRACKER_MARKED,
		.vm_fd = -1,
		.uffd = -1,
	};
}

static void bed_map(struct bed *bed)
{
	struct pmig_region regions[2];

	backing_map(&bed->low, BACKING_ANONYMOUS, LOW_BYTES);
	backing_map(&bed->high, BACKING_MEMFD, HIGH_BYTES);
	bed->high.region.gpa = LOW_BYTES;
	regions[0] = bed->low.region;
	regions[1] = bed->high.region;
	CHECK_OK(pmig_memory_new(regions, 2, &bed->memory, &err), err);
}

static void bed_open(struct bed *bed)
{
	const struct pmig_dirty_config config = marked_config();

	bed_map(bed);
	bed->dirty = dirty_start(bed->memory, &config);
}

static void bed_close(struct bed *bed)
{
	pmig_dirty_free(bed->dirty);
	pmig_memory_free(bed->memory);
	backing_unmap(&bed->low);
	backing_unmap(&bed->high);
}

static void take_all(struct pmig_view *view)
{
	for (uint64_t block = 0; block < N_BLOCKS; block++)
		pmig_view_take(view, block);
}

static void test_page_set(void)
{
	uint64_t words[PAGE_SET_GROUP_BLOCKS];
	struct page_set set;

	CHECK(!page_set_init(&set, 130));
	CHECK_EQ(set.n_groups, 3);
	for (uint64_t group = 0; group < 3; group++)
		CHECK(!page_set_take(&set, group, words));
	page_set_add(&set, 0, 1);
	page_set_add(&set, 63, 2);
	page_set_add(&set, 63, 4);
	page_set_add(&set, 129, UINT64_C(1) << 63);
	CHECK(page_set_take(&set, 0, words));
	CHECK(words[0] == 1 && words[63] == 6);
	CHECK_EQ(pmig_bitmap_count(words, 64), 3);
	CHECK(!page_set_take(&set, 0, words));
	CHECK(!page_set_take(&set, 1, words));
	CHECK(page_set_take(&set, 2, words));
	CHECK(words[1] == UINT64_C(1) << 63);
	page_set_release(&set);
}

static void test_view_starts_full(void)
{
	struct pmig_view *view;
	uint64_t words[N_BLOCKS];
	struct bed bed;

	bed_open(&bed);
	view = dirty_view(bed.dirty);
	CHECK_EQ(pmig_view_pending_pages(view), ALL_PAGES);
	pmig_view_peek(view, 0, N_BLOCKS, words);
	CHECK(words[0] == ~UINT64_C(0) && words[2] == UINT32_MAX);
	CHECK(pmig_view_take(view, 2) == UINT32_MAX);
	CHECK(pmig_view_take(view, 2) == 0);
	CHECK(pmig_view_take(view, N_BLOCKS) == 0);
	CHECK(pmig_view_take(view, UINT64_MAX) == 0);
	pmig_view_peek(view, N_BLOCKS - 1, 2, words);
	CHECK(words[0] && !words[1]);
	pmig_view_free(view);
	bed_close(&bed);
}

static void test_commit_and_rollback(void)
{
	struct pmig_view *view;
	struct bed bed;

	bed_open(&bed);
	view = dirty_view(bed.dirty);
	take_all(view);
	CHECK_EQ(pmig_view_pending_pages(view), 0);
	pmig_view_rollback(view);
	CHECK_EQ(pmig_view_pending_pages(view), ALL_PAGES);
	take_all(view);
	pmig_view_commit(view);
	pmig_view_rollback(view);
	CHECK_EQ(pmig_view_pending_pages(view), 0);
	/* given back beside what was found meanwhile */
	CHECK_EQ(pmig_dirty_mark(bed.dirty, 0, 1), 0);
	CHECK_OK(pmig_view_harvest(view, &err), err);
	take_all(view);
	CHECK_EQ(pmig_dirty_mark(bed.dirty, 4096, 1), 0);
	CHECK_OK(pmig_view_harvest(view, &err), err);
	pmig_view_rollback(view);
	CHECK(pmig_view_take(view, 0) == 3);
	pmig_view_free(view);
	bed_close(&bed);
}

static void check_mark(struct bed *bed, struct pmig_view *view, uint64_t gpa,
		       uint64_t size_bytes, const uint64_t *expected)
{
	uint64_t words[N_BLOCKS];

	CHECK_EQ(pmig_dirty_mark(bed->dirty, gpa, size_bytes), 0);
	CHECK_OK(pmig_view_harvest(view, &err), err);
	for (uint64_t block = 0; block < N_BLOCKS; block++)
		words[block] = pmig_view_take(view, block);
	CHECK(!memcmp(words, expected, sizeof(words)));
}

static void test_marks(void)
{
	struct pmig_view *view;
	struct bed bed;

	bed_open(&bed);
	view = dirty_view(bed.dirty);
	take_all(view);
	check_mark(&bed, view, 0, 0, (uint64_t[N_BLOCKS]){0});
	check_mark(&bed, view, 0, 1, (uint64_t[N_BLOCKS]){1});
	check_mark(&bed, view, 4095, 2, (uint64_t[N_BLOCKS]){3});
	check_mark(&bed, view, 63 * 4096, 8192,
		   (uint64_t[N_BLOCKS]){UINT64_C(1) << 63, 1});
	/* from one region into the next, which begins a block of its own */
	check_mark(&bed, view, LOW_BYTES - 1, 2,
		   (uint64_t[N_BLOCKS]){0, 0, UINT64_C(1) << 31, 1});
	check_mark(&bed, view, 0, LOW_BYTES + HIGH_BYTES,
		   (uint64_t[N_BLOCKS]){~UINT64_C(0), ~UINT64_C(0), UINT32_MAX,
					~UINT64_C(0), ~UINT64_C(0)});
	CHECK_EQ(pmig_dirty_mark(bed.dirty, LOW_BYTES + HIGH_BYTES, 1),
		 -EINVAL);
	CHECK_EQ(pmig_dirty_mark(bed.dirty, 0, UINT64_MAX), -EINVAL);
	CHECK_EQ(pmig_dirty_mark(bed.dirty, UINT64_MAX, 1), -EINVAL);
	pmig_view_free(view);
	bed_close(&bed);
}

static void test_marks_reach_every_view(void)
{
	struct pmig_view *a, *b;
	struct bed bed;

	bed_open(&bed);
	a = dirty_view(bed.dirty);
	b = dirty_view(bed.dirty);
	take_all(a);
	take_all(b);
	CHECK_EQ(pmig_dirty_mark(bed.dirty, 4096, 1), 0);
	CHECK_OK(pmig_view_harvest(a, &err), err);
	CHECK(pmig_view_take(a, 0) == 2);
	CHECK(pmig_view_take(b, 0) == 2);
	pmig_view_free(a);
	CHECK_EQ(pmig_dirty_mark(bed.dirty, 0, 1), 0);
	CHECK_OK(pmig_view_harvest(b, &err), err);
	CHECK(pmig_view_take(b, 0) == 1);
	pmig_view_free(b);
	bed_close(&bed);
}

static void collect(void *opaque, struct pmig_dirty *dirty)
{
	unsigned int *collected = opaque;

	pmig_dirty_mark(dirty, 4096ull * (*collected)++, 1);
}

static void test_collect_is_asked(void)
{
	struct pmig_dirty_config config = marked_config();
	struct pmig_view *view;
	struct bed bed = {.collected = 0};

	bed_map(&bed);
	config.tracker = PMIG_TRACKER_MARKED;
	config.collect = collect;
	config.opaque = &bed.collected;
	bed.dirty = dirty_start(bed.memory, &config);
	view = dirty_view(bed.dirty);
	take_all(view);
	for (unsigned int i = 0; i < 3; i++) {
		CHECK_OK(pmig_view_harvest(view, &err), err);
		CHECK(pmig_view_take(view, 0) == UINT64_C(1) << i);
	}
	pmig_view_free(view);
	bed_close(&bed);
}

static void test_order_of_calls(void)
{
	const struct pmig_dirty_config config = marked_config();
	struct pmig_view *view;
	struct bed bed;

	bed_map(&bed);
	CHECK_OK(pmig_dirty_new(bed.memory, &config, &bed.dirty, &err), err);
	CHECK_EQ(pmig_view_new(bed.dirty, &view, &err), -EINVAL);
	CHECK(strstr(err.message, "started"));
	CHECK_OK(pmig_dirty_stop(bed.dirty, &err), err);
	CHECK_OK(pmig_dirty_start(bed.dirty, &err), err);
	view = dirty_view(bed.dirty);
	CHECK_EQ(pmig_view_rearm(view, 0, N_BLOCKS, &err), 0);
	CHECK_EQ(pmig_view_rearm(view, 1, N_BLOCKS, &err), -EINVAL);
	CHECK_EQ(pmig_dirty_ring_full(bed.dirty, &err), -EINVAL);
	CHECK_OK(pmig_dirty_stop(bed.dirty, &err), err);
	CHECK_EQ(pmig_view_harvest(view, &err), -EINVAL);
	pmig_view_free(view);
	pmig_view_free(NULL);
	pmig_dirty_free(NULL);
	bed_close(&bed);
}

#define REFUSE(member, value, code, text)                                      \
	do {                                                                   \
		struct pmig_dirty_config config = marked_config();             \
		struct pmig_dirty *refused;                                    \
		config.member = value;                                         \
		CHECK_EQ(pmig_dirty_new(bed.memory, &config, &refused, &err),  \
			 code);                                                \
		if (!strstr(err.message, text))                                \
			UNIT_FAIL("\"%s\" has no \"%s\"", err.message, text);  \
	} while (0)

static void test_refused_configurations(void)
{
	struct pmig_dirty *dirty;
	struct bed bed;

	bed_map(&bed);
	CHECK_EQ(pmig_dirty_new(bed.memory, NULL, &dirty, &err), -EINVAL);
	REFUSE(struct_size, 0, -EINVAL, "struct_size");
	REFUSE(tracker, 99, -EINVAL, "tracker 99");
	REFUSE(flags, 0x80, -EINVAL, "flags 0x80");
	REFUSE(n_slots, 1, -EINVAL, "slots");
	REFUSE(n_vcpus, 1, -EINVAL, "vcpu_fds");
	REFUSE(n_slots, UINT32_MAX, -EINVAL, "n_slots");
	REFUSE(ring_bytes, 4097, -EINVAL, "ring_bytes");
	REFUSE(ring_bytes, 8192, -EINVAL, "vcpu_fds");
	REFUSE(tracker, PMIG_TRACKER_KVM_LOG, -ENOTSUP, "vm_fd");
	REFUSE(tracker, PMIG_TRACKER_KVM_RING, -ENOTSUP, "ring_bytes");
	bed.dirty = NULL;
	bed_close(&bed);
}

/* Nothing may be chosen that would find no writes at all. */
static void test_auto_is_not_blind(void)
{
	struct pmig_dirty_config config = marked_config();
	struct bed bed;
	int rc;

	bed_map(&bed);
	config.tracker = PMIG_TRACKER_AUTO;
	/* a descriptor that is no userfaultfd rules that out */
	config.uffd = bed.high.region.fd;
	rc = pmig_dirty_new(bed.memory, &config, &bed.dirty, &err);
	CHECK_EQ(rc, -ENOTSUP);
	CHECK(strstr(err.message, "config.collect"));
	config.collect = collect;
	CHECK_OK(pmig_dirty_new(bed.memory, &config, &bed.dirty, &err), err);
	CHECK_EQ(pmig_dirty_tracker(bed.dirty), PMIG_TRACKER_MARKED);
	CHECK(strstr(pmig_dirty_reason(bed.dirty), "config.collect"));
	bed_close(&bed);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_page_set), UNIT(test_view_starts_full),
		UNIT(test_commit_and_rollback), UNIT(test_marks),
		UNIT(test_marks_reach_every_view), UNIT(test_collect_is_asked),
		UNIT(test_order_of_calls), UNIT(test_refused_configurations),
		UNIT(test_auto_is_not_blind), UNIT_END});
}
