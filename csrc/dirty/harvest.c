/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/error.h"
#include "dirty/dirty.h"

static int harvest_locked(struct pmig_dirty *dirty, struct pmig_error *err)
{
	int rc = 0;

	if (!dirty->started)
		return pmig_fail(err, -EINVAL,
				 "cannot harvest: the tracker is not started");
	if (dirty->config.collect)
		dirty->config.collect(dirty->config.opaque, dirty);
	pthread_rwlock_rdlock(&dirty->views_lock);
	dirty_drain_marks(dirty);
	if (dirty->ops->harvest)
		rc = dirty->ops->harvest(dirty, err);
	pthread_rwlock_unlock(&dirty->views_lock);
	return rc;
}

int pmig_view_harvest(struct pmig_view *view, struct pmig_error *err)
{
	struct pmig_dirty *dirty = view->dirty;
	int rc;

	pthread_mutex_lock(&dirty->harvest_lock);
	rc = harvest_locked(dirty, err);
	pthread_mutex_unlock(&dirty->harvest_lock);
	return rc;
}

static void make_ready(struct pmig_view *view, const struct pmig_span *span)
{
	for (uint64_t i = 0; i < span->n_blocks; i++) {
		uint64_t block = span->first_block + i;
		uint64_t bits = pmig_bits_take(&view->pending[block]);

		if (bits)
			pmig_bits_or(&view->ready[block], bits);
	}
}

static int rearm_unit(struct pmig_view *view, const struct pmig_span *span,
		      struct pmig_error *err)
{
	struct pmig_dirty *dirty = view->dirty;
	pthread_mutex_t *lock =
		dirty_lock_of(dirty, span->map, span->first_block);
	int rc;

	pthread_mutex_lock(lock);
	rc = dirty->ops->rearm(dirty, span, err);
	if (!rc)
		make_ready(view, span);
	pthread_mutex_unlock(lock);
	return rc;
}

int pmig_view_rearm(struct pmig_view *view, uint64_t first_block,
		    uint64_t n_blocks, struct pmig_error *err)
{
	struct pmig_dirty *dirty = view->dirty;
	int rc;

	rc = pmig_memory_check_range(dirty->memory, first_block, n_blocks, err);
	if (rc || !dirty->ops->rearm)
		return rc;
	pthread_rwlock_rdlock(&dirty->views_lock);
	while (!rc && n_blocks) {
		struct pmig_span span;

		dirty_unit(dirty, first_block, n_blocks, &span);
		rc = rearm_unit(view, &span, err);
		first_block += span.n_blocks;
		n_blocks -= span.n_blocks;
	}
	pthread_rwlock_unlock(&dirty->views_lock);
	return rc;
}

int pmig_dirty_ring_full(struct pmig_dirty *dirty, struct pmig_error *err)
{
	int rc;

	if (!dirty->ops->ring_full)
		return pmig_fail(err, -EINVAL,
				 "this tracker has no dirty rings to empty");
	pthread_rwlock_rdlock(&dirty->views_lock);
	rc = dirty->ops->ring_full(dirty, err);
	pthread_rwlock_unlock(&dirty->views_lock);
	return rc;
}
