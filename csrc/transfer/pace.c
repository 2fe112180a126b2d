/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/pace.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"

enum {
	NS_PER_S = 1000000000
};

void pace_init(struct pace *pace)
{
	*pace = (struct pace){0};
	pthread_mutex_init(&pace->lock, NULL);
}

void pace_fini(struct pace *pace)
{
	pthread_mutex_destroy(&pace->lock);
}

/* Bytes that a limit lets pass in a time; more than 4 EiB count as 4 EiB. */
static uint64_t bytes_in(uint64_t limit, uint64_t ns)
{
	unsigned __int128 bytes = (unsigned __int128)limit * ns / NS_PER_S;

	return bytes > UINT64_MAX / 4 ? UINT64_MAX / 4 : (uint64_t)bytes;
}

/* The time that bytes take, rounded up. */
static uint64_t time_of(uint64_t limit, uint64_t bytes)
{
	unsigned __int128 ns =
		((unsigned __int128)bytes * NS_PER_S + limit - 1) / limit;

	return ns > UINT64_MAX ? UINT64_MAX : (uint64_t)ns;
}

/*
 * How far the line is released at now_ns. Whole bytes only: the fraction of
 * a byte is not lost, because since_ns moves only in pace_take() and when
 * the limit changes.
 */
static uint64_t released_at(const struct pace *pace, uint64_t now_ns)
{
	if (now_ns <= pace->since_ns)
		return pace->released;
	return pace->released + bytes_in(pace->limit, now_ns - pace->since_ns);
}

void pace_set_at(struct pace *pace, uint64_t bytes_per_s, uint64_t now_ns)
{
	pthread_mutex_lock(&pace->lock);
	/* without a limit nobody waits, also not when there is one again */
	pace->released = pace->limit ? released_at(pace, now_ns) : pace->taken;
	pace->since_ns = now_ns;
	pace->limit = bytes_per_s;
	pthread_mutex_unlock(&pace->lock);
}

uint64_t pace_take(struct pace *pace, uint64_t bytes, uint64_t now_ns)
{
	uint64_t burst, start;

	pthread_mutex_lock(&pace->lock);
	start = pace->taken;
	burst = bytes_in(pace->limit, PACE_BURST_NS);
	if (released_at(pace, now_ns) > start + burst) {
		pace->released = start + burst;
		pace->since_ns = now_ns;
	}
	pace->taken += bytes;
	pthread_mutex_unlock(&pace->lock);
	return start;
}

uint64_t pace_delay_ns(struct pace *pace, uint64_t start, uint64_t now_ns)
{
	uint64_t released, delay_ns = 0;

	pthread_mutex_lock(&pace->lock);
	released = released_at(pace, now_ns);
	if (pace->limit && start > released)
		delay_ns = time_of(pace->limit, start - released);
	pthread_mutex_unlock(&pace->lock);
	return delay_ns;
}

/* Sleep for a while; -ECANCELED when the eventfd is readable. */
static int sleep_ns(uint64_t ns, int cancel_fd, struct pmig_error *err)
{
	struct pollfd cancel = {.fd = cancel_fd, .events = POLLIN};
	const struct timespec limit = {
		.tv_nsec = (long)(ns < PACE_LOOK_NS ? ns : PACE_LOOK_NS),
	};
	int n = ppoll(&cancel, 1, &limit, NULL);

	if (n < 0 && errno != EINTR)
		return pmig_fail_errno(err, "cannot wait for bandwidth");
	if (n > 0)
		return pmig_fail(err, -ECANCELED, "cancelled");
	return 0;
}

int pace_wait(struct pace *pace, uint64_t bytes, int cancel_fd,
	      struct pmig_error *err)
{
	uint64_t start, delay_ns;
	int rc = 0;

	if (atomic_load_explicit(&pace->limit, memory_order_relaxed) == 0)
		return 0;
	start = pace_take(pace, bytes, pmig_now_ns());
	delay_ns = pace_delay_ns(pace, start, pmig_now_ns());
	while (delay_ns && !rc) {
		rc = sleep_ns(delay_ns, cancel_fd, err);
		delay_ns = pace_delay_ns(pace, start, pmig_now_ns());
	}
	return rc;
}

void pace_set(struct pace *pace, uint64_t bytes_per_s)
{
	pace_set_at(pace, bytes_per_s, pmig_now_ns());
}
