/* SPDX-License-Identifier: Apache-2.0 */
#include "dirty/dirty.h"

#include <errno.h>
#include <stdlib.h>

#include "base/error.h"

static void init_locks(struct pmig_dirty *dirty)
{
	pthread_mutex_init(&dirty->harvest_lock, NULL);
	pthread_rwlock_init(&dirty->views_lock, NULL);
	for (int i = 0; i < DIRTY_LOCKS; i++)
		pthread_mutex_init(&dirty->locks[i].mutex, NULL);
}

static void destroy_locks(struct pmig_dirty *dirty)
{
	for (int i = 0; i < DIRTY_LOCKS; i++)
		pthread_mutex_destroy(&dirty->locks[i].mutex);
	pthread_rwlock_destroy(&dirty->views_lock);
	pthread_mutex_destroy(&dirty->harvest_lock);
}

static void release(struct pmig_dirty *dirty)
{
	destroy_locks(dirty);
	dirty_config_release(dirty);
	page_set_release(&dirty->marks);
	free(dirty->unarmed);
	free(dirty);
}

static int allocate_bitmaps(struct pmig_dirty *dirty, struct pmig_error *err)
{
	uint64_t n_blocks = dirty->memory->n_blocks;

	dirty->unarmed = calloc(n_blocks, sizeof(*dirty->unarmed));
	if (page_set_init(&dirty->marks, n_blocks) || !dirty->unarmed)
		return pmig_fail(err, -ENOMEM, "no memory for a tracker");
	return 0;
}

int pmig_dirty_new(const struct pmig_memory *memory,
		   const struct pmig_dirty_config *config,
		   struct pmig_dirty **dirty, struct pmig_error *err)
{
	struct pmig_dirty *d =
		aligned_alloc(_Alignof(struct pmig_dirty), sizeof(*d));
	int rc;

	if (!d)
		return pmig_fail(err, -ENOMEM, "no memory for a tracker");
	*d = (struct pmig_dirty){.memory = memory};
	init_locks(d);
	rc = allocate_bitmaps(d, err);
	if (!rc)
		rc = dirty_config_copy(d, config, err);
	if (!rc)
		rc = dirty_choose(d, err);
	if (rc) {
		release(d);
		return rc;
	}
	*dirty = d;
	return 0;
}

void pmig_dirty_free(struct pmig_dirty *dirty)
{
	if (!dirty)
		return;
	pmig_dirty_stop(dirty, NULL);
	if (dirty->ops->free)
		dirty->ops->free(dirty);
	release(dirty);
}

enum pmig_tracker pmig_dirty_tracker(const struct pmig_dirty *dirty)
{
	return dirty->ops->tracker;
}

const char *pmig_dirty_variant(const struct pmig_dirty *dirty)
{
	return dirty->variant;
}

const char *pmig_dirty_reason(const struct pmig_dirty *dirty)
{
	return dirty->reason;
}

/* Nothing is known of what was written before: it all counts as written. */
static void forget_all(struct pmig_dirty *dirty)
{
	pthread_rwlock_wrlock(&dirty->views_lock);
	if (dirty->ops->rearm)
		dirty_fill(dirty->memory, dirty->unarmed);
	for (struct pmig_view *view = dirty->views; view; view = view->next)
		dirty_fill(dirty->memory, view->pending);
	pthread_rwlock_unlock(&dirty->views_lock);
}

int pmig_dirty_start(struct pmig_dirty *dirty, struct pmig_error *err)
{
	int rc = 0;

	pthread_mutex_lock(&dirty->harvest_lock);
	if (!dirty->started) {
		forget_all(dirty);
		if (dirty->ops->start)
			rc = dirty->ops->start(dirty, err);
		dirty->started = !rc;
	}
	pthread_mutex_unlock(&dirty->harvest_lock);
	return rc;
}

int pmig_dirty_stop(struct pmig_dirty *dirty, struct pmig_error *err)
{
	int rc = 0;

	pthread_mutex_lock(&dirty->harvest_lock);
	if (dirty->started) {
		dirty->started = false;
		if (dirty->ops->stop)
			rc = dirty->ops->stop(dirty, err);
	}
	pthread_mutex_unlock(&dirty->harvest_lock);
	return rc;
}
