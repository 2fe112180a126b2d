/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner.h - threads that run a machine, and how to pause them
 *
 * Theory of operation.  Each vCPU (or writer) has a thread, a *worker*, that
 * is parked or runs.  pvmm_runner_resume() sets the flag and wakes them;
 * pvmm_runner_pause() clears it, kicks those that run and returns when the
 * last one has parked.  A worker that ends by itself with an error has
 * stopped for good: it parks with its message and never runs again.
 *
 * A worker is kicked only while it is not parked, both under the lock, so a
 * kick belongs to the run that it ends.
 */
#ifndef PVMM_RUNNER_H
#define PVMM_RUNNER_H

#include <pthread.h>
#include <sys/types.h>

#include "vmm/vmm.h"

struct pvmm_worker;

/**
 * struct pvmm_backend_ops - what makes a worker a vCPU or a writer
 * @name:	of the threads, with %u for the number
 * @run:	on the worker's thread: run until pvmm_worker_must_park(), then
 *		bring the vCPU to rest and return 0; or a negative errno value
 *		with err filled in when it cannot go on
 * @kick:	any thread: make a running run() look at the flag
 * @alarm:	on the worker's thread: do the same so many ns from now, if
 *		run() does not look often by itself
 * @wait:	on the worker's thread: wait so many ns, or for a kick
 */
struct pvmm_backend_ops {
	const char *name;
	int (*run)(struct pvmm_worker *worker, struct pmig_error *err);
	void (*kick)(struct pvmm_worker *worker);
	void (*alarm)(struct pvmm_worker *worker, uint64_t ns);
	void (*wait)(struct pvmm_worker *worker, uint64_t ns);
};

/**
 * struct pvmm_worker - one vCPU or writer
 * @vm:		its machine
 * @index:	its number
 * @thread:	valid while @started
 * @tid:	of the thread, set before it parks for the first time
 * @parked:	not in run(); under the runner's lock
 * @stopped:	will never run again; under the runner's lock
 */
struct pvmm_worker {
	struct pvmm *vm;
	uint32_t index;
	pthread_t thread;
	pid_t tid;
	bool started;
	bool parked;
	bool stopped;
};

/**
 * struct pvmm_runner - all workers of a machine
 * @lock:	protects what follows
 * @wake:	workers wait here
 * @rest:	pause waits here for the last worker to park
 * @running:	workers should run; also read without the lock
 * @quit:	threads should end
 * @first_stop:	why the first worker stopped for good
 */
struct pvmm_runner {
	const struct pvmm_backend_ops *ops;
	uint32_t n_workers;
	struct pvmm_worker workers[PVMM_MAX_VCPUS];
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_cond_t rest;
	bool running;
	bool quit;
	uint32_t n_stopped;
	uint64_t n_kicks;
	struct pmig_error first_stop;
};

/* Start the threads, parked. On failure nothing is left behind. */
int pvmm_runner_start(struct pvmm_runner *runner, struct pvmm *vm,
		      const struct pvmm_backend_ops *ops, uint32_t n_workers,
		      struct pmig_error *err);

/* Pause, end and join the threads. Safe on a runner that never started. */
void pvmm_runner_stop(struct pvmm_runner *runner);

void pvmm_runner_pause(struct pvmm_runner *runner);
int pvmm_runner_resume(struct pvmm_runner *runner, struct pmig_error *err);

/* Make workers that run look around. */
void pvmm_runner_kick(struct pvmm_runner *runner);

/* Is every worker parked and to stay so? */
bool pvmm_runner_paused(struct pvmm_runner *runner);

/* Should run() of this worker return? Any thread. */
bool pvmm_worker_must_park(const struct pvmm_worker *worker);

#endif
