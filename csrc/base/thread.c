/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "base/error.h"

int pmig_thread_start(pthread_t *thread, const char *role, unsigned int index,
		      void *(*main)(void *), void *arg, struct pmig_error *err)
{
	char name[16];
	sigset_t all, before;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(thread, NULL, main, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc)
		return pmig_fail(err, -rc, "cannot start thread pmig-%s-%u",
				 role, index);
	snprintf(name, sizeof(name), "pmig-%s-%u", role, index);
	pthread_setname_np(*thread, name);
	return 0;
}

int pmig_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;
	int rc = pthread_condattr_init(&attr);

	if (rc)
		return -rc;
	rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (!rc)
		rc = pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
	return -rc;
}

struct timespec pmig_deadline(int timeout_ms)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	if (timeout_ms <= 0)
		return at;
	at.tv_sec += timeout_ms / 1000;
	at.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (at.tv_nsec >= 1000000000) {
		at.tv_sec++;
		at.tv_nsec -= 1000000000;
	}
	return at;
}
