/* SPDX-License-Identifier: Apache-2.0 */
/* The bandwidth limit: the arithmetic on a made-up clock, the wait for real. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "transfer/pace.h"
#include "unit.h"

enum {
	MS = 1000000,
	GBIT_PER_S = 125000000, /* in bytes */
	WRITE_BYTES = 512 << 10,
};

static const uint64_t SECOND = 1000000000;

/* Begin at a time that is not 0. */
static void begin(struct pace *pace, uint64_t limit, uint64_t *now_ns)
{
	*now_ns = 77 * SECOND + 3;
	pace_init(pace);
	pace_set_at(pace, limit, *now_ns);
}

/* One write: wait until its turn, and late_ns longer when there was a wait. */
static void write_paced(struct pace *pace, uint64_t bytes, uint64_t late_ns,
			uint64_t *now_ns)
{
	uint64_t start = pace_take(pace, bytes, *now_ns);
	uint64_t delay_ns = pace_delay_ns(pace, start, *now_ns);

	if (delay_ns)
		*now_ns += delay_ns + late_ns;
	CHECK_EQ(pace_delay_ns(pace, start, *now_ns), 0);
}

static void check_rate(uint64_t limit, uint64_t bytes, uint64_t late_ns,
		       unsigned int writes)
{
	uint64_t expected_ns = writes * bytes * SECOND / limit;
	struct pace pace;
	uint64_t begin_ns, now_ns;

	begin(&pace, limit, &now_ns);
	begin_ns = now_ns;
	for (unsigned int i = 0; i <= writes; i++)
		write_paced(&pace, bytes, late_ns, &now_ns);
	/* the last write begins when those before it have passed */
	CHECK(now_ns - begin_ns >= expected_ns - PACE_BURST_NS);
	CHECK(now_ns - begin_ns <= expected_ns + late_ns + 1000);
	pace_fini(&pace);
}

static void test_average_is_the_limit(void)
{
	check_rate(GBIT_PER_S, WRITE_BYTES, 0, 1000);
	check_rate(GBIT_PER_S, 1500, 0, 100000);
	check_rate(10ull * GBIT_PER_S, WRITE_BYTES, 0, 10000);
	check_rate(1000, WRITE_BYTES, 0, 10);
	check_rate(1, 1, 0, 10);
}

static void test_late_timers_are_made_up_for(void)
{
	check_rate(GBIT_PER_S, WRITE_BYTES, PACE_BURST_NS, 1000);
	check_rate(GBIT_PER_S, 64 << 10, PACE_BURST_NS, 1000);
}

static void test_first_write_does_not_wait(void)
{
	struct pace pace;
	uint64_t now_ns;

	begin(&pace, 1000, &now_ns);
	CHECK_EQ(
		pace_delay_ns(&pace, pace_take(&pace, 1 << 30, now_ns), now_ns),
		0);
	CHECK_EQ(pace_delay_ns(&pace, pace_take(&pace, 1, now_ns), now_ns),
		 (1ull << 30) * 1000000);
	pace_fini(&pace);
}

/* After an idle hour no more than the burst goes out at once. */
static void test_idle_time_is_not_saved_up(void)
{
	const uint64_t burst_bytes = GBIT_PER_S / 1000 * 2;
	uint64_t now_ns, sent = 0;
	struct pace pace;

	begin(&pace, GBIT_PER_S, &now_ns);
	write_paced(&pace, 1, 0, &now_ns);
	now_ns += 3600 * SECOND;
	while (!pace_delay_ns(&pace, pace_take(&pace, 1000, now_ns), now_ns))
		sent += 1000;
	CHECK(sent >= burst_bytes && sent <= burst_bytes + 1000);
	pace_fini(&pace);
}

/* Several workers share one line: together they keep the limit. */
static void test_workers_share(void)
{
	uint64_t now_ns, begin_ns, due_ns[4] = {0};
	struct pace pace;

	begin(&pace, GBIT_PER_S, &now_ns);
	begin_ns = now_ns;
	for (int i = 0; i < 400; i++) {
		uint64_t start = pace_take(&pace, WRITE_BYTES, now_ns);

		due_ns[i % 4] = now_ns + pace_delay_ns(&pace, start, now_ns);
		if (i % 4 == 3)
			now_ns = due_ns[3];
	}
	CHECK_EQ((now_ns - begin_ns) / MS, 399 * 524288ull / 125000);
	CHECK(due_ns[0] < due_ns[1] && due_ns[1] < due_ns[2]);
	pace_fini(&pace);
}

static void test_limit_changes_while_waiting(void)
{
	struct pace pace;
	uint64_t now_ns, start;

	begin(&pace, 1000, &now_ns);
	pace_take(&pace, 10000, now_ns);
	start = pace_take(&pace, 10000, now_ns);
	CHECK_EQ(pace_delay_ns(&pace, start, now_ns), 10 * SECOND);
	now_ns += 5 * SECOND;
	CHECK_EQ(pace_delay_ns(&pace, start, now_ns), 5 * SECOND);
	pace_set_at(&pace, 100, now_ns);
	CHECK_EQ(pace_delay_ns(&pace, start, now_ns), 50 * SECOND);
	pace_set_at(&pace, 5000000, now_ns);
	CHECK_EQ(pace_delay_ns(&pace, start, now_ns), MS);
	pace_set_at(&pace, 0, now_ns);
	CHECK_EQ(pace_delay_ns(&pace, start, now_ns), 0);
	pace_set_at(&pace, 1, now_ns);
	CHECK_EQ(pace_delay_ns(&pace, start, now_ns), 0);
	pace_fini(&pace);
}

static void test_extreme_limits(void)
{
	struct pace pace;
	uint64_t now_ns;

	begin(&pace, UINT64_MAX, &now_ns);
	for (int i = 0; i < 100; i++) {
		write_paced(&pace, 1 << 30, 0, &now_ns);
		now_ns += 1000000 * SECOND;
	}
	pace_set_at(&pace, 1, now_ns);
	pace_take(&pace, UINT64_MAX / 8, now_ns);
	CHECK(pace_delay_ns(&pace, pace_take(&pace, 1, now_ns), now_ns) >
	      UINT64_MAX / 2);
	pace_fini(&pace);
}

static void test_wait_takes_its_time(void)
{
	int cancel_fd = eventfd(0, EFD_CLOEXEC);
	uint64_t begin_ns;
	struct pmig_error err;
	struct pace pace;

	pace_init(&pace);
	CHECK_OK(pace_wait(&pace, UINT64_MAX, cancel_fd, &err), err);
	pace_set(&pace, 1000000);
	begin_ns = pmig_now_ns();
	for (int i = 0; i < 6; i++)
		CHECK_OK(pace_wait(&pace, 10000, cancel_fd, &err), err);
	CHECK(pmig_now_ns() - begin_ns >= 50 * MS - PACE_BURST_NS);
	pace_fini(&pace);
	close(cancel_fd);
}

/* A worker that waits for hours, and what ends that. */
struct waiter {
	struct pace pace;
	int cancel_fd;
	atomic_bool waits;
	int rc;
	struct pmig_error err;
};

static void *wait_main(void *arg)
{
	struct waiter *waiter = arg;

	pace_set(&waiter->pace, 1);
	pace_wait(&waiter->pace, 1 << 20, waiter->cancel_fd, &waiter->err);
	waiter->waits = true;
	waiter->rc =
		pace_wait(&waiter->pace, 1, waiter->cancel_fd, &waiter->err);
	return NULL;
}

static void start_waiter(struct waiter *waiter, pthread_t *thread)
{
	waiter->cancel_fd = eventfd(0, EFD_CLOEXEC);
	waiter->waits = false;
	pace_init(&waiter->pace);
	CHECK_EQ(pthread_create(thread, NULL, wait_main, waiter), 0);
	while (!waiter->waits)
		usleep(100);
}

static void end_waiter(struct waiter *waiter, pthread_t thread)
{
	pthread_join(thread, NULL);
	pace_fini(&waiter->pace);
	close(waiter->cancel_fd);
}

static void test_wait_ends_on_cancel(void)
{
	struct waiter waiter;
	pthread_t thread;

	start_waiter(&waiter, &thread);
	eventfd_write(waiter.cancel_fd, 1);
	end_waiter(&waiter, thread);
	CHECK_EQ(waiter.rc, -ECANCELED);
	CHECK(strstr(waiter.err.message, "cancelled"));
}

static void test_wait_ends_without_a_limit(void)
{
	struct waiter waiter;
	pthread_t thread;

	start_waiter(&waiter, &thread);
	pace_set(&waiter.pace, 0);
	end_waiter(&waiter, thread);
	CHECK_EQ(waiter.rc, 0);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_average_is_the_limit),
		UNIT(test_late_timers_are_made_up_for),
		UNIT(test_first_write_does_not_wait),
		UNIT(test_idle_time_is_not_saved_up), UNIT(test_workers_share),
		UNIT(test_limit_changes_while_waiting),
		UNIT(test_extreme_limits), UNIT(test_wait_takes_its_time),
		UNIT(test_wait_ends_on_cancel),
		UNIT(test_wait_ends_without_a_limit), UNIT_END});
}
