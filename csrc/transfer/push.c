/* SPDX-License-Identifier: Apache-2.0 */
/* push.c - late pages that nobody asked for; theory in sender_late.h */
#include <errno.h>
#include <poll.h>
#include <sys/prctl.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/haste.h"
#include "transfer/push_hold.h"
#include "transfer/sender.h"

enum {
	/* sleeps of a fraction of a millisecond are meant as such */
	TIMER_SLACK_NS = 1000,
};

/* Processors that are idle when another worker begins to push. */
static const double HELPER_CPUS = 0.5;

/* One worker that pushes, and what it has learned. */
struct pusher {
	struct send_worker *worker;
	struct push_pace pace;
	struct push_hold hold;
};

static struct push_sight look(struct send_worker *worker)
{
	struct outbox *box = &worker->box;
	struct channel_sight seen = channel_look(box->channel);
	uint64_t asked_ns = worker->sender->late.asked_ns;
	uint64_t now_ns = pmig_now_ns();

	box->backlog_bytes = seen.backlog_bytes;
	return (struct push_sight){
		.now_ns = now_ns,
		.written_bytes = box->wire_bytes,
		.pushed_pages = worker->round.sent_pages,
		.placed_pages = worker->placed_pages,
		.unsent_bytes = seen.unsent_bytes,
		.in_flight_bytes = seen.in_flight_bytes,
		.round_trip_ns = seen.round_trip_ns,
		.quiet_ns = now_ns - asked_ns,
	};
}

static int sleep_ns(const struct send_worker *worker, uint64_t ns,
		    struct pmig_error *err)
{
	struct pollfd fd = {.fd = worker->box.wait.cancel_fd, .events = POLLIN};
	const struct timespec limit = {
		.tv_sec = (time_t)(ns / 1000000000),
		.tv_nsec = (long)(ns % 1000000000),
	};

	if (ppoll(&fd, 1, &limit, NULL) > 0)
		return pmig_fail(err, -ECANCELED, "cancelled");
	return 0;
}

/* What of this worker's is not where it should be: it shrinks, or is stuck. */
static uint64_t left_of(const struct push_sight *sight)
{
	return sight->unsent_bytes + sight->in_flight_bytes +
	       sight->pushed_pages - sight->placed_pages;
}

/* How long the link, or the receiver, has no room for a frame. */
static uint64_t no_room_ns(const struct pusher *pusher,
			   const struct push_sight *sight, unsigned int n_pages,
			   uint64_t stuck_ns, bool *waited)
{
	uint64_t bytes =
		n_pages * push_hold_page_bytes(&pusher->hold, PMIG_PAGE_BYTES);
	uint64_t link_ns = push_pace_wait_ns(&pusher->pace, sight, bytes);
	uint64_t hold_ns =
		push_hold_wait_ns(&pusher->hold, sight, n_pages, stuck_ns);

	*waited |= link_ns > 0;
	return link_ns > hold_ns ? link_ns : hold_ns;
}

static void learn(struct pusher *pusher, const struct push_sight *sight,
		  bool waited)
{
	push_hold_learn(&pusher->hold, sight);
	if (push_pace_learn(&pusher->pace, sight, waited) &&
	    !channel_space(pusher->worker->box.channel,
			   (uint64_t)pusher->pace.space_bytes_per_s))
		push_pace_cannot_space(&pusher->pace);
}

/*
 * Until a frame of so many pages has room. Where nothing moves for as long as
 * a link may stall, it is broken.
 */
static int wait_for_room(struct pusher *pusher, unsigned int n_pages,
			 struct pmig_error *err)
{
	struct send_worker *worker = pusher->worker;
	struct push_sight sight = look(worker);
	uint64_t since_ns = sight.now_ns;
	uint64_t before = left_of(&sight);
	uint64_t limit_ns = (uint64_t)worker->box.wait.stall_ms * 1000000;
	bool waited = false;
	uint64_t ns;
	int rc = 0;

	while (!rc && (ns = no_room_ns(pusher, &sight, n_pages,
				       sight.now_ns - since_ns, &waited))) {
		rc = sleep_ns(worker, ns, err);
		sight = look(worker);
		if (left_of(&sight) != before) {
			before = left_of(&sight);
			since_ns = sight.now_ns;
		}
		if (!rc && sight.now_ns - since_ns > limit_ns)
			rc = pmig_fail(err, -ETIMEDOUT,
				       "nothing was taken for %d ms",
				       worker->box.wait.stall_ms);
	}
	learn(pusher, &sight, waited);
	return rc;
}

/*
 * Where it is not the link that limits, and a processor has nothing to do,
 * another worker may help.
 */
static void invite(struct pmig_sender *sender, const struct push_pace *pace)
{
	struct sender_late *late = &sender->late;
	uint32_t n_workers = sender->n_workers - 1;

	if (pace->n_free < PUSH_FREE_INTERVALS ||
	    late->n_pushing >= n_workers ||
	    climate_idle(&sender->climate) < HELPER_CPUS)
		return;
	pthread_mutex_lock(&late->lock);
	if (late->n_pushing < n_workers)
		late->n_pushing++;
	pthread_cond_broadcast(&late->changed);
	pthread_mutex_unlock(&late->lock);
}

static int push_frame(struct pusher *pusher, bool *pushed,
		      struct pmig_error *err)
{
	struct send_worker *worker = pusher->worker;
	struct sender_late *late = &worker->sender->late;
	double page_bytes =
		push_hold_page_bytes(&pusher->hold, PMIG_PAGE_BYTES);
	unsigned int limit =
		push_pace_pages(&pusher->pace, page_bytes, PMIG_BLOCK_PAGES);
	uint64_t block, pages;
	int rc = wait_for_room(pusher, limit, err);

	*pushed = false;
	if (rc)
		return rc;
	pages = late_pages_next(&late->pages, limit, &block);
	if (!pages)
		return 0;
	*pushed = true;
	sender_pulse(worker);
	rc = send_block(worker, block, pages, ~UINT64_C(0), err);
	if (!rc)
		rc = outbox_flush(&worker->box, err);
	publish_progress(worker, 0, worker->round.sent_pages);
	return rc;
}

/* Nothing is left, or others do it; true when it is over. */
static bool wait_for_more(struct send_worker *worker)
{
	struct sender_late *late = &worker->sender->late;
	bool over;

	pthread_mutex_lock(&late->lock);
	while (!late->arrived && !sender_has_failed(worker->sender) &&
	       (worker->index >= late->n_pushing ||
		!late_pages_due(&late->pages)))
		pthread_cond_wait(&late->changed, &late->lock);
	over = late->arrived || sender_has_failed(worker->sender);
	pthread_mutex_unlock(&late->lock);
	return over;
}

int send_pushed(struct send_worker *worker, struct pmig_error *err)
{
	struct sender_late *late = &worker->sender->late;
	struct pusher pusher = {.worker = worker};
	int rc = 0;

	worker->box.watched = true;
	pmig_thread_hasten(PMIG_HASTE_LINK);
	prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);
	push_pace_init(&pusher.pace);
	push_hold_init(&pusher.hold);
	while (!rc && !wait_for_more(worker)) {
		bool pushed = true;

		while (!rc && pushed && worker->index < late->n_pushing) {
			rc = push_frame(&pusher, &pushed, err);
			invite(worker->sender, &pusher.pace);
		}
	}
	return rc;
}
