/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One dirty ring against a model of KVM's side of it (virt/kvm/dirty_ring.c
 * of Linux): push fills in the next entry without looking, reset goes through
 * entries in order while they are marked.
 */
#include "dirty/dirty_kvm_ring.h"

#include <linux/kvm.h>
#include <string.h>

#include "unit.h"

enum {
	N_ENTRIES = 256,
};

/**
 * struct model - KVM's side
 * @pushed:	dirty_index
 * @reset:	reset_index
 */
struct model {
	struct kvm_dirty_gfn entries[N_ENTRIES];
	uint32_t pushed;
	uint32_t reset;
};

static void model_push(struct model *model, uint32_t n)
{
	for (; n; n--, model->pushed++)
		model->entries[model->pushed % N_ENTRIES] =
			(struct kvm_dirty_gfn){
				.flags = KVM_DIRTY_GFN_F_DIRTY,
				.slot = 7,
				.offset = model->pushed,
			};
}

static void model_reset(struct model *model)
{
	struct kvm_dirty_gfn *entry;

	for (;; model->reset++) {
		entry = &model->entries[model->reset % N_ENTRIES];
		if (!(entry->flags & KVM_DIRTY_GFN_F_RESET))
			break;
		entry->flags = 0;
	}
}

static struct kvm_ring ring_of(struct model *model)
{
	return (struct kvm_ring){
		.entries = model->entries,
		.n_entries = N_ENTRIES,
	};
}

/* Take all in order; each page must follow the one before. */
static uint32_t take_in_order(struct kvm_ring *ring, uint64_t first_page)
{
	struct kvm_ring_entry entry;
	uint32_t n = 0;

	while (kvm_ring_next(ring, &entry)) {
		CHECK_EQ(entry.slot, 7);
		CHECK_EQ(entry.page, first_page + n);
		n++;
	}
	return n;
}

static void test_in_order_around_the_ring(void)
{
	struct model model = {.pushed = 0};
	struct kvm_ring ring = ring_of(&model);

	CHECK_EQ(take_in_order(&ring, 0), 0);
	CHECK(kvm_ring_is_reset(&ring));
	for (int turn = 0; turn < 20; turn++) {
		uint32_t first = model.pushed;

		model_push(&model, 100);
		CHECK(!kvm_ring_is_half_full(&ring));
		model_push(&model, 60);
		CHECK(kvm_ring_is_half_full(&ring));
		CHECK_EQ(take_in_order(&ring, first), 160);
		CHECK(!kvm_ring_is_reset(&ring));
		model_reset(&model);
		CHECK(kvm_ring_is_reset(&ring));
		CHECK(!kvm_ring_is_exhausted(&ring));
		kvm_ring_forget(&ring);
		CHECK(model.reset == model.pushed);
	}
}

/* The run of what waits may begin anywhere, also before the end. */
static void test_finds_its_place(void)
{
	for (uint32_t used = 0; used < N_ENTRIES; used++) {
		struct model model = {.pushed = used, .reset = used};
		struct kvm_ring ring = ring_of(&model);

		model_push(&model, 40);
		CHECK_EQ(take_in_order(&ring, used), 40);
		model_push(&model, 3);
		CHECK_EQ(take_in_order(&ring, used + 40), 3);
		model_reset(&model);
		CHECK(kvm_ring_is_reset(&ring));
		CHECK(model.reset == model.pushed);
	}
}

/* What the tracker does when a reset does not get through. */
static bool resynchronise(struct model *model, struct kvm_ring *ring)
{
	struct kvm_ring_entry entry;
	bool is_stray, any_stray = false;

	for (int i = 0; i < 4 * N_ENTRIES; i++) {
		while (kvm_ring_take_any(ring, &entry, &is_stray))
			any_stray |= is_stray;
		model_reset(model);
		if (!kvm_ring_any_unreset(ring))
			return any_stray;
		kvm_ring_bridge(ring);
	}
	UNIT_FAIL("KVM is still out of step: %u appended, %u reset",
		  model->pushed, model->reset);
}

/* The whole ring waits, and KVM is ahead of where it resets. */
static void test_overflow_is_seen_and_bridged(void)
{
	for (uint32_t excess = 1; excess < N_ENTRIES - 40; excess += 5) {
		struct model model = {.pushed = 77, .reset = 77};
		struct kvm_ring ring = ring_of(&model);
		struct kvm_ring_entry entry;
		uint32_t first;

		model_push(&model, N_ENTRIES + excess);
		for (int i = 0; i < N_ENTRIES; i++)
			CHECK(kvm_ring_next(&ring, &entry));
		CHECK(kvm_ring_is_exhausted(&ring));
		model_reset(&model);
		CHECK(kvm_ring_is_reset(&ring));
		kvm_ring_forget(&ring);
		CHECK(ring.is_gapped && model.pushed != model.reset);
		/* the next entries are found, and their reset needs a bridge */
		first = model.pushed;
		model_push(&model, 30);
		CHECK_EQ(take_in_order(&ring, first), 30);
		model_reset(&model);
		CHECK(!kvm_ring_is_reset(&ring));
		CHECK(!resynchronise(&model, &ring));
		kvm_ring_forget(&ring);
		CHECK(!ring.is_gapped && model.pushed == model.reset);
	}
}

/* Entries that were taken are written over before they are reset. */
static void test_overflow_behind_the_consumer(void)
{
	struct model model = {.pushed = 5, .reset = 5};
	struct kvm_ring ring = ring_of(&model);
	uint32_t first;

	model_push(&model, 200);
	CHECK_EQ(take_in_order(&ring, 5), 200);
	model_push(&model, 90);
	model_reset(&model);
	CHECK(!kvm_ring_is_reset(&ring));
	resynchronise(&model, &ring);
	CHECK(kvm_ring_is_exhausted(&ring));
	kvm_ring_forget(&ring);
	first = model.pushed;
	model_push(&model, 10);
	CHECK_EQ(take_in_order(&ring, first), 10);
	model_reset(&model);
	resynchronise(&model, &ring);
	CHECK(model.pushed == model.reset);
}

/* A reset wiped out an entry that was just appended over it. */
static void test_stray_is_found(void)
{
	struct model model = {.pushed = 0};
	struct kvm_ring ring = ring_of(&model);
	struct kvm_ring_entry entry;
	bool is_stray;

	model_push(&model, 150);
	CHECK_EQ(take_in_order(&ring, 0), 150);
	model_reset(&model);
	kvm_ring_forget(&ring);
	model_push(&model, 3);
	model.entries[150].flags = 0;
	CHECK(!kvm_ring_next(&ring, &entry));
	CHECK(kvm_ring_take_any(&ring, &entry, &is_stray));
	CHECK(is_stray && entry.page == 151);
	CHECK(kvm_ring_take_any(&ring, &entry, &is_stray));
	CHECK(entry.page == 152);
	CHECK(!kvm_ring_take_any(&ring, &entry, &is_stray));
	CHECK(kvm_ring_is_exhausted(&ring));
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_in_order_around_the_ring), UNIT(test_finds_its_place),
		UNIT(test_overflow_is_seen_and_bridged),
		UNIT(test_overflow_behind_the_consumer),
		UNIT(test_stray_is_found), UNIT_END});
}
