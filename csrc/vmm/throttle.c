/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/throttle.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "vmm/error.h"
#include "vmm/vm.h"

#define NS_PER_S    1000000000ull
#define TURN_NS	    10000000ull
#define LOOK_NS	    20000000ull
#define MAX_PERCENT 99

/* The guest writes while this reads: one word at a time, nothing more. */
#define GUEST_ACCESS __attribute__((no_sanitize("thread")))

/* Of older libc headers. */
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static int make_timer(struct pvmm_throttle *throttle,
		      const struct pvmm_worker *worker, struct pmig_error *err)
{
	struct sigevent event = {
		.sigev_notify = SIGEV_THREAD_ID,
		.sigev_signo = SIGRTMIN,
	};

	event.sigev_notify_thread_id = worker->tid;
	if (timer_create(CLOCK_MONOTONIC, &event,
			 &throttle->timers[worker->index]))
		return pvmm_fail_errno(err,
				       "cannot make a timer to throttle vCPU "
				       "%u (see RLIMIT_SIGPENDING)",
				       worker->index);
	throttle->n_timers = worker->index + 1;
	return 0;
}

/* Timers are made when they are needed for the first time. */
static int make_timers(struct pvmm *vm, struct pmig_error *err)
{
	struct pvmm_throttle *throttle = &vm->throttle;
	int rc = 0;

	for (uint32_t i = throttle->n_timers; !rc && i < vm->runner.n_workers;
	     i++)
		rc = make_timer(throttle, &vm->runner.workers[i], err);
	return rc;
}

int pvmm_throttle(struct pvmm *vm, uint32_t percent, struct pmig_error *err)
{
	int rc = 0;

	if (percent > MAX_PERCENT)
		return pvmm_fail(err, -EINVAL,
				 "cannot throttle by %u %%: 0 to %d is allowed",
				 percent, MAX_PERCENT);
	pthread_mutex_lock(&vm->runner.lock);
	if (percent && pvmm_is_kvm(vm))
		rc = make_timers(vm, err);
	if (!rc)
		atomic_store(&vm->throttle.percent, percent);
	pthread_mutex_unlock(&vm->runner.lock);
	if (!rc)
		pvmm_runner_kick(&vm->runner);
	return rc;
}

void pvmm_throttled(struct pvmm *vm, struct pvmm_throttled *state)
{
	struct pvmm_throttle *throttle = &vm->throttle;

	*state = (struct pvmm_throttled){
		.struct_size = sizeof(*state),
		.percent = atomic_load(&throttle->percent),
		.held_back_vcpus = (uint32_t)__builtin_popcountll(
			atomic_load(&throttle->held_back)),
		.waits = atomic_load(&throttle->waits),
		.waited_ns = atomic_load(&throttle->waited_ns),
	};
}

void pvmm_throttle_free(struct pvmm_throttle *throttle)
{
	while (throttle->n_timers)
		timer_delete(throttle->timers[--throttle->n_timers]);
}

void pvmm_throttle_alarm(struct pvmm_worker *worker, uint64_t ns)
{
	const struct itimerspec at = {
		.it_value.tv_sec = (time_t)(ns / NS_PER_S),
		.it_value.tv_nsec = (long)(ns % NS_PER_S),
	};

	timer_settime(worker->vm->throttle.timers[worker->index], 0, &at, NULL);
}

static void hold_back(struct pvmm_worker *worker, bool on)
{
	uint64_t bit = 1ull << worker->index;

	if (on)
		atomic_fetch_or(&worker->vm->throttle.held_back, bit);
	else
		atomic_fetch_and(&worker->vm->throttle.held_back, ~bit);
}

void pvmm_turn_begin(struct pvmm_worker *worker)
{
	worker->vm->throttle.turns[worker->index] = (struct pvmm_turn){0};
	hold_back(worker, false);
}

/* What the mailbox says of steps: changes as long as there are any. */
GUEST_ACCESS static uint64_t steps_of(const struct pvmm_worker *worker)
{
	return *pvmm_word(pvmm_mailbox(worker->vm, worker->index), M_STEPS);
}

/* Is this one of those that write? The first look has nothing to compare. */
static bool is_writing(struct pvmm_worker *worker, struct pvmm_turn *turn,
		       uint64_t now)
{
	uint64_t steps;

	if (turn->seen_ns)
		turn->ran_ns += now - turn->seen_ns;
	turn->seen_ns = now;
	if (turn->ran_ns < turn->look_at_ns)
		return turn->is_writing;
	steps = steps_of(worker);
	turn->is_writing = steps != turn->steps;
	turn->steps = steps;
	turn->look_at_ns = turn->ran_ns + LOOK_NS;
	return turn->is_writing;
}

static void begin_turn(struct pvmm_worker *worker, struct pvmm_turn *turn,
		       uint64_t percent, uint64_t now)
{
	uint64_t run_ns = TURN_NS * (100 - percent) / 100;

	turn->wait_until_ns = 0;
	turn->run_until_ns = now + run_ns;
	hold_back(worker, true);
	worker->vm->runner.ops->alarm(worker, run_ns);
}

/* Run on, but have a look now and then. */
static void leave_alone(struct pvmm_worker *worker, struct pvmm_turn *turn)
{
	turn->run_until_ns = turn->wait_until_ns = 0;
	hold_back(worker, false);
	worker->vm->runner.ops->alarm(worker, LOOK_NS);
}

static void wait_on(struct pvmm_worker *worker, struct pvmm_turn *turn,
		    uint64_t now)
{
	worker->vm->runner.ops->wait(worker, turn->wait_until_ns - now);
	turn->seen_ns = now_ns();
	atomic_fetch_add(&worker->vm->throttle.waited_ns, turn->seen_ns - now);
}

/* Throttling has ended, or was never on. */
static bool is_over(struct pvmm_worker *worker, struct pvmm_turn *turn)
{
	if (turn->seen_ns)
		pvmm_turn_begin(worker);
	return false;
}

bool pvmm_turn_waited(struct pvmm_worker *worker)
{
	struct pvmm_throttle *throttle = &worker->vm->throttle;
	struct pvmm_turn *turn = &throttle->turns[worker->index];
	uint64_t percent = atomic_load(&throttle->percent);
	uint64_t now;

	if (!percent)
		return is_over(worker, turn);
	now = now_ns();
	if (turn->wait_until_ns > now) {
		wait_on(worker, turn, now);
		return true;
	}
	if (!is_writing(worker, turn, now)) {
		leave_alone(worker, turn);
		return false;
	}
	if (turn->wait_until_ns || !turn->run_until_ns) {
		begin_turn(worker, turn, percent, now);
		return false;
	}
	if (now < turn->run_until_ns)
		return false;
	turn->wait_until_ns = now + TURN_NS * percent / 100;
	atomic_fetch_add(&throttle->waits, 1);
	wait_on(worker, turn, now);
	return true;
}
