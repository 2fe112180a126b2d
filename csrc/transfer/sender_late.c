/* SPDX-License-Identifier: Apache-2.0 */
/* sender_late.c - what a sender is asked to do in post-copy */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "transfer/sender.h"

int sender_late_init(struct sender_late *late, const struct pmig_memory *memory,
		     bool enabled, struct pmig_error *err)
{
	late->enabled = enabled;
	if (!enabled)
		return 0;
	pthread_mutex_init(&late->lock, NULL);
	pthread_cond_init(&late->changed, NULL);
	prefetch_init(&late->prefetch);
	late->n_pushing = 1;
	late->named = calloc(memory->n_blocks, sizeof(*late->named));
	if (late_pages_init(&late->pages, memory) || !late->named)
		return pmig_fail(err, -ENOMEM, "no memory for late pages");
	return 0;
}

void sender_late_fini(struct sender_late *late)
{
	if (!late->enabled)
		return;
	late_pages_fini(&late->pages);
	free(late->named);
	pthread_cond_destroy(&late->changed);
	pthread_mutex_destroy(&late->lock);
}

void sender_late_wake(struct sender_late *late, bool arrived)
{
	if (!late->enabled)
		return;
	pthread_mutex_lock(&late->lock);
	late->arrived |= arrived;
	pthread_cond_broadcast(&late->changed);
	pthread_mutex_unlock(&late->lock);
}

static int check_enabled(const struct pmig_sender *sender,
			 struct pmig_error *err)
{
	if (sender->late.enabled)
		return 0;
	return pmig_fail(err, -EINVAL,
			 "the sender was not made for late pages "
			 "(PMIG_SENDER_LATE)");
}

int pmig_sender_defer(struct pmig_sender *sender, enum pmig_epoch_kind kind,
		      struct pmig_round *round, struct pmig_error *err)
{
	int rc = check_enabled(sender, err);

	return rc ? rc : sender_run(sender, kind, true, round, err);
}

int pmig_sender_owe(struct pmig_sender *sender, uint64_t first_block,
		    uint64_t n_blocks, const uint64_t *bitmap,
		    struct pmig_error *err)
{
	int rc = check_enabled(sender, err);

	if (!rc)
		rc = pmig_memory_check_range(sender->memory, first_block,
					     n_blocks, err);
	for (uint64_t i = 0; i < n_blocks && !rc; i++) {
		struct pmig_block block;

		pmig_memory_locate(sender->memory, first_block + i, &block);
		if (bitmap[i] & ~block.valid)
			rc = pmig_fail(err, -EINVAL,
				       "pages that are missing lie outside "
				       "guest memory");
		else if (bitmap[i])
			late_pages_owe(&sender->late.pages, first_block + i,
				       bitmap[i], false);
	}
	return rc;
}

static int check_push(enum pmig_push push, struct pmig_error *err)
{
	if (push <= PMIG_PUSH_NONE)
		return 0;
	return pmig_fail(err, -EINVAL,
			 "what is to be pushed is none of enum pmig_push");
}

int pmig_sender_first(struct pmig_sender *sender, const uint64_t *pages,
		      uint64_t n_pages, enum pmig_push push,
		      struct pmig_error *err)
{
	int rc = check_enabled(sender, err);

	for (uint64_t i = 0; i < n_pages && !rc; i++)
		rc = pmig_memory_check_range(
			sender->memory, pages[i] / PMIG_BLOCK_PAGES, 1, err);
	if (!rc)
		rc = check_push(push, err);
	if (rc)
		return rc;
	if (late_pages_first(&sender->late.pages, pages, n_pages, push))
		return pmig_fail(err, -ENOMEM, "no memory for page numbers");
	return 0;
}

int pmig_sender_push(struct pmig_sender *sender, enum pmig_push push,
		     struct pmig_error *err)
{
	int rc = check_enabled(sender, err);

	if (!rc)
		rc = check_push(push, err);
	if (rc)
		return rc;
	sender->late.pages.push = push;
	sender_late_wake(&sender->late, false);
	return 0;
}

int pmig_sender_late(struct pmig_sender *sender, struct pmig_round *round,
		     struct pmig_late *late, struct pmig_error *err)
{
	int rc = check_enabled(sender, err);

	if (rc)
		return rc;
	sender->late.asked_ns = pmig_now_ns();
	rc = sender_run(sender, PMIG_EPOCH_LATE, false, round, err);
	*late = sender->late.stats;
	late->struct_size = sizeof(*late);
	return rc;
}

uint64_t pmig_sender_owed_pages(const struct pmig_sender *sender)
{
	return sender->late.enabled ? sender->late.pages.left : 0;
}
