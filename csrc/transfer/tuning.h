/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tuning.h - settings that change while a sender runs
 *
 * The caller writes them on any thread, every worker reads them before each
 * block. A worker keeps a copy and looks at one number to find out whether
 * it is still right.
 */
#ifndef PMIG_TRANSFER_TUNING_H
#define PMIG_TRANSFER_TUNING_H

#include <pthread.h>
#include <stdatomic.h>

#include "pymigrate.h"

/**
 * struct tuning - see above
 * @lock:	guards @value
 * @generation:	changes with @value
 * @value:	as set last
 */
struct tuning {
	pthread_mutex_t lock;
	atomic_uint generation;
	struct pmig_tuning value;
};

/**
 * struct tuning_copy - what one worker goes by
 * @generation:	of @value; 0: none yet
 * @value:	the settings
 */
struct tuning_copy {
	unsigned int generation;
	struct pmig_tuning value;
};

/* Begin with value, or with zeros for NULL; checked as in tuning_set(). */
int tuning_init(struct tuning *tuning, const struct pmig_tuning *value,
		uint32_t n_channels, struct pmig_error *err);
void tuning_fini(struct tuning *tuning);

/* -EINVAL with the member that is wrong. */
int tuning_set(struct tuning *tuning, const struct pmig_tuning *value,
	       uint32_t n_channels, struct pmig_error *err);

/* Bring copy up to date; true when it was not. */
bool tuning_refresh(struct tuning *tuning, struct tuning_copy *copy);

#endif
