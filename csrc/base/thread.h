/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PMIG_BASE_THREAD_H
#define PMIG_BASE_THREAD_H

#include <pthread.h>

#include "pymigrate.h"

/*
 * Start a thread named "pmig-<role>-<index>" with every signal blocked, so
 * that the signals of the embedding program stay with its own threads.
 * 0 or -errno.
 */
int pmig_thread_start(pthread_t *thread, const char *role, unsigned int index,
		      void *(*main)(void *), void *arg, struct pmig_error *err);

/* A condition variable whose timed waits use the monotonic clock. */
int pmig_cond_init(pthread_cond_t *cond);

/* When a timed wait that begins now ends; for what is not 0 or more, now. */
struct timespec pmig_deadline(int timeout_ms);

#endif
