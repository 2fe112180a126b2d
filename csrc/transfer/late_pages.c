/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/late_pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bitmap.h"

enum {
	/* every so manieth block is one below the fault */
	DOWN_EVERY = 4,
};

int late_pages_init(struct late_pages *late, const struct pmig_memory *memory)
{
	late->memory = memory;
	late->todo = calloc(memory->n_blocks, sizeof(*late->todo));
	late->recent = calloc(memory->n_blocks, sizeof(*late->recent));
	pthread_mutex_init(&late->lock, NULL);
	return late->todo && late->recent ? 0 : -ENOMEM;
}

void late_pages_fini(struct late_pages *late)
{
	if (!late->memory)
		return;
	pthread_mutex_destroy(&late->lock);
	free(late->first);
	free(late->recent);
	free(late->todo);
}

void late_pages_owe(struct late_pages *late, uint64_t block, uint64_t pages,
		    bool recent)
{
	uint64_t before;

	pthread_mutex_lock(&late->lock);
	before = __atomic_fetch_or(&late->todo[block], pages, __ATOMIC_SEQ_CST);
	if (recent) {
		late->recent[block] |= pages;
		late->recent_at = 0;
	}
	pthread_mutex_unlock(&late->lock);
	late->left += (uint64_t)__builtin_popcountll(pages & ~before);
}

uint64_t late_pages_take(struct late_pages *late, uint64_t block,
			 uint64_t pages)
{
	uint64_t taken = pmig_bits_take_some(&late->todo[block], pages);

	if (taken)
		late->left -= (uint64_t)__builtin_popcountll(taken);
	return taken;
}

/* ---- where the guest faults -------------------------------------------- */

static struct late_focus focus_at(const struct late_pages *late, uint64_t block)
{
	struct late_focus focus = {
		.up = block,
		.down = block,
		.first = block > LATE_REACH_BLOCKS ? block - LATE_REACH_BLOCKS
						   : 0,
		.end = block + LATE_REACH_BLOCKS,
	};

	if (focus.end > late->memory->n_blocks)
		focus.end = late->memory->n_blocks;
	return focus;
}

/* One that the guest is about to leave is as good as none. */
static bool is_covered(const struct late_focus *focus, uint64_t block)
{
	return block >= focus->first &&
	       block + LATE_REACH_BLOCKS / 2 < focus->end;
}

static void move_to_front(struct late_pages *late, unsigned int i,
			  struct late_focus focus)
{
	memmove(&late->foci[1], &late->foci[0], i * sizeof(late->foci[0]));
	late->foci[0] = focus;
}

void late_pages_focus(struct late_pages *late, uint64_t block)
{
	unsigned int i = 0;

	pthread_mutex_lock(&late->lock);
	while (i < late->n_foci && !is_covered(&late->foci[i], block))
		i++;
	if (i < late->n_foci) {
		move_to_front(late, i, late->foci[i]);
	} else {
		if (late->n_foci < LATE_FOCI)
			late->n_foci++;
		move_to_front(late, late->n_foci - 1, focus_at(late, block));
	}
	pthread_mutex_unlock(&late->lock);
}

static void drop_focus(struct late_pages *late, unsigned int i)
{
	late->n_foci--;
	memmove(&late->foci[i], &late->foci[i + 1],
		(late->n_foci - i) * sizeof(late->foci[0]));
}

/* ---- what is needed first ---------------------------------------------- */

int late_pages_first(struct late_pages *late, const uint64_t *pages,
		     uint64_t n_pages, enum pmig_push push)
{
	uint64_t *first = malloc((n_pages + 1) * sizeof(*first));

	if (!first)
		return -ENOMEM;
	if (n_pages)
		memcpy(first, pages, n_pages * sizeof(*first));
	pthread_mutex_lock(&late->lock);
	free(late->first);
	late->first = first;
	late->n_first = n_pages;
	late->first_at = 0;
	late->push = push;
	pthread_mutex_unlock(&late->lock);
	return 0;
}

static uint64_t block_of(uint64_t page)
{
	return page / PMIG_BLOCK_PAGES;
}

static bool is_todo(const struct late_pages *late, uint64_t page)
{
	return pmig_bits_load(&late->todo[block_of(page)]) >>
		       page % PMIG_BLOCK_PAGES &
	       1;
}

/* Under the lock: go past those that were sent. */
static bool reach_first(struct late_pages *late)
{
	if (late->push == PMIG_PUSH_NONE)
		return false;
	while (late->first_at < late->n_first &&
	       !is_todo(late, late->first[late->first_at]))
		late->first_at++;
	return late->first_at < late->n_first;
}

/* The next one, and those needed soon after that lie beside it. */
static bool next_first(struct late_pages *late, uint64_t *block,
		       uint64_t *pages)
{
	if (!reach_first(late))
		return false;
	*block = block_of(late->first[late->first_at]);
	*pages = 0;
	for (uint64_t i = late->first_at;
	     i < late->n_first && i < late->first_at + LATE_GATHER; i++)
		if (block_of(late->first[i]) == *block)
			*pages |= UINT64_C(1)
				  << late->first[i] % PMIG_BLOCK_PAGES;
	return true;
}

bool late_pages_due(struct late_pages *late)
{
	bool due;

	pthread_mutex_lock(&late->lock);
	due = late->push == PMIG_PUSH_ALL ? late->left > 0 : reach_first(late);
	pthread_mutex_unlock(&late->lock);
	return due;
}

/* ---- what to push next ------------------------------------------------- */

static bool is_due(const struct late_pages *late, uint64_t block)
{
	return pmig_bits_load(&late->todo[block]) != 0;
}

static bool step_up(const struct late_pages *late, struct late_focus *focus,
		    uint64_t *block)
{
	while (focus->up < focus->end && !is_due(late, focus->up))
		focus->up++;
	*block = focus->up;
	return focus->up < focus->end;
}

static bool step_down(const struct late_pages *late, struct late_focus *focus,
		      uint64_t *block)
{
	while (focus->down > focus->first && !is_due(late, focus->down - 1))
		focus->down--;
	*block = focus->down - 1;
	return focus->down > focus->first;
}

static bool next_of_focus(const struct late_pages *late,
			  struct late_focus *focus, uint64_t *block)
{
	bool down_first = ++focus->turns % DOWN_EVERY == 0;

	if (down_first && step_down(late, focus, block))
		return true;
	return step_up(late, focus, block) || step_down(late, focus, block);
}

static bool next_recent(struct late_pages *late, uint64_t *block)
{
	uint64_t n_blocks = late->memory->n_blocks;

	while (late->recent_at < n_blocks &&
	       !(late->recent[late->recent_at] &
		 pmig_bits_load(&late->todo[late->recent_at])))
		late->recent_at++;
	*block = late->recent_at;
	return late->recent_at < n_blocks;
}

/* Pages may come to be owed again behind where the search has got to. */
static bool next_of_rest(struct late_pages *late, uint64_t *block)
{
	uint64_t n_blocks = late->memory->n_blocks;

	for (uint64_t i = 0; i < n_blocks; i++) {
		if (late->rest_at >= n_blocks)
			late->rest_at = 0;
		if (is_due(late, late->rest_at)) {
			*block = late->rest_at;
			return true;
		}
		late->rest_at++;
	}
	return false;
}

/* Under the lock: the block, and which of its pages. */
static bool pick(struct late_pages *late, uint64_t *block, uint64_t *pages)
{
	if (next_first(late, block, pages))
		return true;
	if (late->push != PMIG_PUSH_ALL)
		return false;
	*pages = ~UINT64_C(0);
	if (next_recent(late, block)) {
		*pages = late->recent[*block];
		return true;
	}
	while (late->n_foci) {
		if (next_of_focus(late, &late->foci[0], block))
			return true;
		drop_focus(late, 0);
	}
	return next_of_rest(late, block);
}

static uint64_t lowest(uint64_t pages, unsigned int limit)
{
	uint64_t found = 0;

	for (; pages && limit; limit--, pages &= pages - 1)
		found |= pages & -pages;
	return found;
}

uint64_t late_pages_next(struct late_pages *late, unsigned int limit,
			 uint64_t *block)
{
	uint64_t pages, taken = 0;

	pthread_mutex_lock(&late->lock);
	/* a fault may take them first */
	while (!taken && late->left && pick(late, block, &pages)) {
		pages &= pmig_bits_load(&late->todo[*block]);
		taken = late_pages_take(late, *block, lowest(pages, limit));
	}
	pthread_mutex_unlock(&late->lock);
	return taken;
}
