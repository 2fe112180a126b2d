/* SPDX-License-Identifier: Apache-2.0 */
/* answer.c - pages that somebody waits for; theory in restore.h */
#include <errno.h>
#include <stdlib.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "fault/pages.h"
#include "restore/restore.h"

int restore_queue_init(struct restore_queue *queue, uint64_t n_blocks)
{
	queue->wanted = calloc(n_blocks, sizeof(*queue->wanted));
	queue->ring = calloc(n_blocks, sizeof(*queue->ring));
	return queue->wanted && queue->ring ? 0 : -ENOMEM;
}

void restore_queue_fini(struct restore_queue *queue)
{
	free(queue->ring);
	free(queue->wanted);
}

void restore_request(void *opaque, uint64_t block, uint64_t pages)
{
	struct pmig_restore *restore = opaque;
	struct restore_queue *queue = &restore->queue;
	uint64_t n_blocks = restore->memory->n_blocks;

	pthread_mutex_lock(&restore->lock);
	restore->busy_ns = pmig_now_ns();
	if (!queue->wanted[block])
		queue->ring[(queue->first + queue->n++) % n_blocks] =
			(struct restore_request){block, restore->busy_ns};
	queue->wanted[block] |= pages;
	pthread_cond_signal(&restore->asked);
	pthread_mutex_unlock(&restore->lock);
}

void restore_end(struct pmig_restore *restore)
{
	pthread_mutex_lock(&restore->lock);
	restore->over = true;
	pthread_cond_broadcast(&restore->asked);
	pthread_cond_broadcast(&restore->calm);
	pthread_mutex_unlock(&restore->lock);
}

void restore_no_more(void *opaque)
{
	restore_end(opaque);
}

bool restore_is_over(struct pmig_restore *restore)
{
	bool over;

	pthread_mutex_lock(&restore->lock);
	over = restore->over;
	pthread_mutex_unlock(&restore->lock);
	return over;
}

/* Wait for the oldest request; false when it is over. */
static bool next_request(struct pmig_restore *restore,
			 struct restore_request *request, uint64_t *pages)
{
	struct restore_queue *queue = &restore->queue;
	bool any;

	pthread_mutex_lock(&restore->lock);
	while (!queue->n && !restore->over)
		pthread_cond_wait(&restore->asked, &restore->lock);
	any = !restore->over;
	if (any) {
		*request = queue->ring[queue->first];
		queue->first = (queue->first + 1) % restore->memory->n_blocks;
		queue->n--;
		*pages = queue->wanted[request->block];
		queue->wanted[request->block] = 0;
	}
	pthread_mutex_unlock(&restore->lock);
	return any;
}

/* Note that somebody was answered; does nobody else wait? */
static bool is_idle(struct pmig_restore *restore)
{
	bool idle;

	pthread_mutex_lock(&restore->lock);
	restore->busy_ns = pmig_now_ns();
	idle = !restore->queue.n;
	pthread_mutex_unlock(&restore->lock);
	return idle;
}

/* Near pages; of a larger page of the backing all were asked for anyway. */
static void bring_cluster(struct restore_worker *worker, uint64_t block,
			  uint64_t pages)
{
	struct pmig_restore *restore = worker->restore;
	uint64_t near = restore_cluster((uint64_t)__builtin_ctzll(pages));

	if (fault_is_large(pmig_memory_map_of(restore->memory, block)))
		return;
	/* and what is about to be prefetched there */
	if (restore->first)
		near |= pmig_bits_take(&restore->first[block]);
	near = restore_claim(restore, block, near);
	if (near)
		restore_bring(worker, block, near, 0, &restore->answered);
}

static void answer(struct restore_worker *worker,
		   const struct restore_request *request, uint64_t asked)
{
	struct pmig_restore *restore = worker->restore;
	uint64_t pages = restore_claim(restore, request->block, asked);

	if (pages)
		restore_bring(worker, request->block, pages, request->since_ns,
			      &restore->answered);
	if (is_idle(restore))
		bring_cluster(worker, request->block, asked);
}

void *restore_answer_main(void *arg)
{
	struct restore_worker *worker = arg;
	struct restore_request request;
	uint64_t pages;

	while (next_request(worker->restore, &request, &pages))
		answer(worker, &request, pages);
	return NULL;
}
