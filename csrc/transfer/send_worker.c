/* SPDX-License-Identifier: Apache-2.0 */
/* send_worker.c - the thread of one channel; theory in sender.h */
#include <string.h>
#include <sys/eventfd.h>

#include "transfer/sender.h"

void sender_fail(struct pmig_sender *sender, const struct pmig_error *err)
{
	pthread_mutex_lock(&sender->lock);
	if (sender->failed.code == 0)
		sender->failed = *err;
	pthread_cond_broadcast(&sender->more);
	pthread_mutex_unlock(&sender->lock);
	eventfd_write(sender->cancel_fd, 1);
	sender_late_wake(&sender->late, false);
}

/* Wait for a round newer than generation; false when the thread is to end. */
static bool next_round(struct send_worker *worker, uint64_t *generation)
{
	struct pmig_sender *sender = worker->sender;
	bool go_on;

	pthread_mutex_lock(&sender->lock);
	while (!sender->stopping && sender->generation == *generation)
		pthread_cond_wait(&sender->wake, &sender->lock);
	go_on = !sender->stopping;
	*generation = sender->generation;
	memset(&worker->round, 0, sizeof(worker->round));
	memset(worker->encoder.used_pages, 0,
	       sizeof(worker->encoder.used_pages));
	worker->round.epoch = sender->epoch;
	worker->round.kind = sender->kind;
	if (worker->index == 0)
		worker->round.digest = sender->state_digest;
	worker->frames = 0;
	worker->placed_pages = 0;
	pthread_mutex_unlock(&sender->lock);
	return go_on;
}

static void round_done(struct pmig_sender *sender)
{
	pthread_mutex_lock(&sender->lock);
	if (--sender->n_busy == 0)
		pthread_cond_signal(&sender->idle);
	pthread_mutex_unlock(&sender->lock);
}

void *send_worker_main(void *arg)
{
	struct send_worker *worker = arg;
	uint64_t generation = 0;

	while (next_round(worker, &generation)) {
		struct pmig_error err = {0};

		if (send_worker_round(worker, &err))
			sender_fail(worker->sender, &err);
		round_done(worker->sender);
	}
	return NULL;
}
