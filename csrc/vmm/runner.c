/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/runner.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/error.h"
#include "vmm/vm.h"

bool pvmm_worker_must_park(const struct pvmm_worker *worker)
{
	return !__atomic_load_n(&worker->vm->runner.running, __ATOMIC_ACQUIRE);
}

/* Park until there is something to do; false when the thread should end. */
static bool wait_for_run(struct pvmm_runner *runner, struct pvmm_worker *worker)
{
	bool run;

	pthread_mutex_lock(&runner->lock);
	worker->parked = true;
	pthread_cond_broadcast(&runner->rest);
	while (!runner->quit && (!runner->running || worker->stopped))
		pthread_cond_wait(&runner->wake, &runner->lock);
	run = !runner->quit;
	worker->parked = !run;
	pthread_mutex_unlock(&runner->lock);
	return run;
}

static void stop_for_good(struct pvmm_runner *runner,
			  struct pvmm_worker *worker,
			  const struct pmig_error *why)
{
	struct pvmm_devices *devices = &worker->vm->devices;

	pthread_mutex_lock(&runner->lock);
	worker->stopped = true;
	if (!runner->n_stopped++)
		runner->first_stop = *why;
	pthread_mutex_unlock(&runner->lock);
	pthread_mutex_lock(&devices->lock);
	pthread_cond_broadcast(&devices->changed);
	pthread_mutex_unlock(&devices->lock);
}

static void *worker_main(void *opaque)
{
	struct pvmm_worker *worker = opaque;
	struct pvmm_runner *runner = &worker->vm->runner;
	struct pmig_error why = {0};
	char name[16];

	/* Names hold 15 bytes; PVMM_MAX_VCPUS makes these fit. */
	snprintf(name, sizeof(name), "%s%u", runner->ops->name, worker->index);
	pthread_setname_np(pthread_self(), name);
	worker->tid = gettid();
	while (wait_for_run(runner, worker)) {
		if (runner->ops->run(worker, &why))
			stop_for_good(runner, worker, &why);
	}
	return NULL;
}

/*
 * Signals of the process are for its own threads: workers block them all.
 * The mask is inherited, so that no signal finds a worker without it.
 */
static int start_worker(struct pvmm_runner *runner, uint32_t index,
			struct pvmm *vm)
{
	struct pvmm_worker *worker = &runner->workers[index];
	sigset_t all, before;
	int rc;

	*worker = (struct pvmm_worker){.vm = vm, .index = index};
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&worker->thread, NULL, worker_main, worker);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	worker->started = rc == 0;
	return -rc;
}

/* With the lock held. */
static void wait_for_rest(struct pvmm_runner *runner)
{
	for (uint32_t i = 0; i < runner->n_workers; i++) {
		struct pvmm_worker *worker = &runner->workers[i];

		while (worker->started && !worker->parked)
			pthread_cond_wait(&runner->rest, &runner->lock);
	}
}

int pvmm_runner_start(struct pvmm_runner *runner, struct pvmm *vm,
		      const struct pvmm_backend_ops *ops, uint32_t n_workers,
		      struct pmig_error *err)
{
	int rc = 0;

	runner->ops = ops;
	pthread_mutex_init(&runner->lock, NULL);
	pthread_cond_init(&runner->wake, NULL);
	pthread_cond_init(&runner->rest, NULL);
	for (; !rc && runner->n_workers < n_workers; runner->n_workers++)
		rc = start_worker(runner, runner->n_workers, vm);
	if (rc) {
		pvmm_runner_stop(runner);
		return pvmm_fail(err, rc, "cannot start a vCPU thread: %s",
				 strerror(-rc));
	}
	pthread_mutex_lock(&runner->lock);
	wait_for_rest(runner);
	pthread_mutex_unlock(&runner->lock);
	return 0;
}

void pvmm_runner_stop(struct pvmm_runner *runner)
{
	if (!runner->ops)
		return;
	pvmm_runner_pause(runner);
	pthread_mutex_lock(&runner->lock);
	runner->quit = true;
	pthread_cond_broadcast(&runner->wake);
	pthread_mutex_unlock(&runner->lock);
	for (uint32_t i = 0; i < runner->n_workers; i++) {
		if (runner->workers[i].started)
			pthread_join(runner->workers[i].thread, NULL);
	}
	pthread_cond_destroy(&runner->rest);
	pthread_cond_destroy(&runner->wake);
	pthread_mutex_destroy(&runner->lock);
	runner->ops = NULL;
}

/* With the lock held. Returns how many there were. */
static uint32_t kick_workers(struct pvmm_runner *runner)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < runner->n_workers; i++) {
		struct pvmm_worker *worker = &runner->workers[i];

		if (!worker->started || worker->parked)
			continue;
		runner->ops->kick(worker);
		n++;
	}
	return n;
}

void pvmm_runner_kick(struct pvmm_runner *runner)
{
	pthread_mutex_lock(&runner->lock);
	kick_workers(runner);
	pthread_mutex_unlock(&runner->lock);
}

void pvmm_runner_pause(struct pvmm_runner *runner)
{
	pthread_mutex_lock(&runner->lock);
	__atomic_store_n(&runner->running, false, __ATOMIC_RELEASE);
	runner->n_kicks += kick_workers(runner);
	wait_for_rest(runner);
	pthread_mutex_unlock(&runner->lock);
}

int pvmm_runner_resume(struct pvmm_runner *runner, struct pmig_error *err)
{
	int rc = 0;

	pthread_mutex_lock(&runner->lock);
	if (runner->n_stopped) {
		rc = pvmm_fail(err, -EIO, "the machine cannot run: %s",
			       runner->first_stop.message);
	} else {
		__atomic_store_n(&runner->running, true, __ATOMIC_RELEASE);
		pthread_cond_broadcast(&runner->wake);
	}
	pthread_mutex_unlock(&runner->lock);
	return rc;
}

bool pvmm_runner_paused(struct pvmm_runner *runner)
{
	bool paused;

	pthread_mutex_lock(&runner->lock);
	paused = !runner->running;
	pthread_mutex_unlock(&runner->lock);
	return paused;
}
