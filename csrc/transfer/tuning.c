/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/tuning.h"

#include <errno.h>
#include <inttypes.h>

#include "base/error.h"

enum {
	MIN_ZSTD_LEVEL = -50,
	MAX_ZSTD_LEVEL = 19,
	MAX_LZ4_ACCELERATION = 64,
};

static int check_level(const struct pmig_tuning *value, struct pmig_error *err)
{
	int32_t min = 0, max = 0;

	if (value->compression == PMIG_COMPRESSION_ZSTD) {
		min = MIN_ZSTD_LEVEL;
		max = MAX_ZSTD_LEVEL;
	} else if (value->compression == PMIG_COMPRESSION_LZ4) {
		max = MAX_LZ4_ACCELERATION;
	}
	if (value->level < min || value->level > max)
		return pmig_fail(err, -EINVAL,
				 "pmig_tuning.level is %" PRId32
				 ", this compression takes %" PRId32
				 " to %" PRId32,
				 value->level, min, max);
	return 0;
}

static int check(const struct pmig_tuning *value, uint32_t n_channels,
		 struct pmig_error *err)
{
	if (value->struct_size < sizeof(*value))
		return pmig_fail(err, -EINVAL,
				 "pmig_tuning.struct_size is not set");
	if (value->compression > PMIG_COMPRESSION_ZSTD)
		return pmig_fail(err, -EINVAL,
				 "pmig_tuning.compression: unknown value");
	if (value->delta > PMIG_CHOICE_ON || value->zero_copy > PMIG_CHOICE_ON)
		return pmig_fail(err, -EINVAL,
				 "pmig_tuning: delta and zero_copy are AUTO, "
				 "OFF or ON");
	if (value->active_channels > n_channels)
		return pmig_fail(err, -EINVAL,
				 "pmig_tuning.active_channels is %" PRIu32
				 ", there are %" PRIu32 " channels",
				 value->active_channels, n_channels);
	return check_level(value, err);
}

int tuning_init(struct tuning *tuning, const struct pmig_tuning *value,
		uint32_t n_channels, struct pmig_error *err)
{
	const struct pmig_tuning automatic = {.struct_size = sizeof(automatic)};

	pthread_mutex_init(&tuning->lock, NULL);
	return tuning_set(tuning, value ? value : &automatic, n_channels, err);
}

void tuning_fini(struct tuning *tuning)
{
	pthread_mutex_destroy(&tuning->lock);
}

int tuning_set(struct tuning *tuning, const struct pmig_tuning *value,
	       uint32_t n_channels, struct pmig_error *err)
{
	int rc = check(value, n_channels, err);

	if (rc)
		return rc;
	pthread_mutex_lock(&tuning->lock);
	tuning->value = *value;
	tuning->generation++;
	pthread_mutex_unlock(&tuning->lock);
	return 0;
}

bool tuning_refresh(struct tuning *tuning, struct tuning_copy *copy)
{
	if (copy->generation == tuning->generation)
		return false;
	pthread_mutex_lock(&tuning->lock);
	copy->generation = tuning->generation;
	copy->value = tuning->value;
	pthread_mutex_unlock(&tuning->lock);
	return true;
}
