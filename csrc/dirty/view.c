/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "base/error.h"
#include "dirty/dirty.h"

static void link_view(struct pmig_view *view)
{
	struct pmig_dirty *dirty = view->dirty;

	pthread_rwlock_wrlock(&dirty->views_lock);
	view->next = dirty->views;
	dirty->views = view;
	pthread_rwlock_unlock(&dirty->views_lock);
}

static void unlink_view(struct pmig_view *view)
{
	struct pmig_dirty *dirty = view->dirty;
	struct pmig_view **at;

	pthread_rwlock_wrlock(&dirty->views_lock);
	for (at = &dirty->views; *at; at = &(*at)->next) {
		if (*at == view) {
			*at = view->next;
			break;
		}
	}
	pthread_rwlock_unlock(&dirty->views_lock);
}

static bool is_started(struct pmig_dirty *dirty)
{
	bool started;

	pthread_mutex_lock(&dirty->harvest_lock);
	started = dirty->started;
	pthread_mutex_unlock(&dirty->harvest_lock);
	return started;
}

static void release(struct pmig_view *view)
{
	free(view->pending);
	free(view->ready);
	free(view->taken);
	free(view);
}

static struct pmig_view *allocate(struct pmig_dirty *dirty)
{
	uint64_t n_blocks = dirty->memory->n_blocks;
	struct pmig_view *view = calloc(1, sizeof(*view));

	if (!view)
		return NULL;
	view->dirty = dirty;
	view->pending = calloc(n_blocks, sizeof(*view->pending));
	view->ready = calloc(n_blocks, sizeof(*view->ready));
	view->taken = calloc(n_blocks, sizeof(*view->taken));
	if (view->pending && view->ready && view->taken)
		return view;
	release(view);
	return NULL;
}

int pmig_view_new(struct pmig_dirty *dirty, struct pmig_view **view,
		  struct pmig_error *err)
{
	struct pmig_view *v;

	if (!is_started(dirty))
		return pmig_fail(err, -EINVAL,
				 "a view needs a tracker that is started");
	v = allocate(dirty);
	if (!v)
		return pmig_fail(err, -ENOMEM, "no memory for a view");
	dirty_fill(dirty->memory, v->pending);
	link_view(v);
	*view = v;
	return 0;
}

void pmig_view_free(struct pmig_view *view)
{
	if (!view)
		return;
	unlink_view(view);
	release(view);
}

uint64_t view_take_some(struct pmig_view *view, uint64_t block,
			uint64_t allowed)
{
	uint64_t bits;

	if (block >= view->dirty->memory->n_blocks)
		return 0;
	bits = pmig_bits_take_some(&view->ready[block], allowed);
	if (!view->dirty->ops->rearm)
		bits |= pmig_bits_take_some(&view->pending[block], allowed);
	if (bits)
		pmig_bits_or(&view->taken[block], bits);
	return bits;
}

uint64_t pmig_view_take(struct pmig_view *view, uint64_t block)
{
	return view_take_some(view, block, ~UINT64_C(0));
}

static uint64_t untaken(const struct pmig_view *view, uint64_t block)
{
	return pmig_bits_load(&view->pending[block]) |
	       pmig_bits_load(&view->ready[block]);
}

uint64_t pmig_view_pending_pages(const struct pmig_view *view)
{
	uint64_t pages = 0;

	for (uint64_t i = 0; i < view->dirty->memory->n_blocks; i++) {
		uint64_t bits = untaken(view, i);

		/* most are none, and counting takes longer than looking */
		if (bits)
			pages += (unsigned int)__builtin_popcountll(bits);
	}
	return pages;
}

void pmig_view_peek(const struct pmig_view *view, uint64_t first_block,
		    uint64_t n_blocks, uint64_t *bitmap)
{
	for (uint64_t i = 0; i < n_blocks; i++) {
		uint64_t block = first_block + i;

		bitmap[i] = block < view->dirty->memory->n_blocks
				    ? untaken(view, block)
				    : 0;
	}
}

void view_pend(struct pmig_view *view, uint64_t block, uint64_t bits)
{
	pmig_bits_or(&view->pending[block], bits);
}

void pmig_view_commit(struct pmig_view *view)
{
	for (uint64_t i = 0; i < view->dirty->memory->n_blocks; i++)
		pmig_bits_take(&view->taken[i]);
}

void pmig_view_rollback(struct pmig_view *view)
{
	for (uint64_t i = 0; i < view->dirty->memory->n_blocks; i++) {
		uint64_t bits = pmig_bits_take(&view->taken[i]);

		if (bits)
			pmig_bits_or(&view->pending[i], bits);
	}
}
