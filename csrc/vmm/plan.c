/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/plan.h"

#include <errno.h>
#include <string.h>

#include "vmm/error.h"
#include "vmm/layout.h"

#define DEFAULT_RING_ENTRIES 65536
#define DEFAULT_TICK_HZ	     1000
#define MAX_TICK_HZ	     10000
#define DEFAULT_WRITE_BYTES  64
#define MAX_RATE_PAGES_PER_S (1ull << 32)

/* The counter and the identity words come before what is written. */
#define MAX_WRITE_BYTES (PVMM_PAGE_BYTES - PVMM_PARTIAL_BYTES)

static int copy_config(const struct pvmm_config *from, struct pvmm_config *to,
		       struct pmig_error *err)
{
	if (from->struct_size < sizeof(*to))
		return pvmm_fail(err, -EINVAL,
				 "config.struct_size is %u, expected %zu",
				 from->struct_size, sizeof(*to));
	*to = *from;
	to->struct_size = sizeof(*to);
	if (!to->ring_entries)
		to->ring_entries = DEFAULT_RING_ENTRIES;
	if (!to->tick_hz)
		to->tick_hz = DEFAULT_TICK_HZ;
	if (!to->write_bytes)
		to->write_bytes = DEFAULT_WRITE_BYTES;
	return 0;
}

static int check_enums(const struct pvmm_config *config, struct pmig_error *err)
{
	const uint32_t all = PVMM_POPULATE | PVMM_UNLIMITED;

	if (config->flags & ~all)
		return pvmm_fail(err, -EINVAL, "config.flags has unknown bits");
	if (config->backend < PVMM_BACKEND_KVM ||
	    config->backend > PVMM_BACKEND_THREADS)
		return pvmm_fail(err, -EINVAL, "config.backend is unknown");
	if (config->backing < PVMM_BACKING_MEMFD ||
	    config->backing > PVMM_BACKING_THP)
		return pvmm_fail(err, -EINVAL, "config.backing is unknown");
	if (config->program < PVMM_PROGRAM_SWEEP ||
	    config->program > PVMM_PROGRAM_IDLE)
		return pvmm_fail(err, -EINVAL, "config.program is unknown");
	if (config->content < PVMM_CONTENT_ZERO ||
	    config->content > PVMM_CONTENT_POINTERS)
		return pvmm_fail(err, -EINVAL, "config.content is unknown");
	if (config->tracker > PMIG_TRACKER_MARKED)
		return pvmm_fail(err, -EINVAL, "config.tracker is unknown");
	return 0;
}

static int check_sizes(const struct pvmm_config *config, struct pmig_error *err)
{
	if (config->n_vcpus < 1 || config->n_vcpus > PVMM_MAX_VCPUS)
		return pvmm_fail(err, -EINVAL,
				 "config.n_vcpus is %u, allowed are 1 to %d",
				 config->n_vcpus, PVMM_MAX_VCPUS);
	if (config->memory_bytes < PVMM_MIN_MEMORY_BYTES ||
	    config->memory_bytes > PVMM_MAX_MEMORY_BYTES ||
	    config->memory_bytes % PVMM_LARGE_BYTES)
		return pvmm_fail(err, -EINVAL,
				 "config.memory_bytes must be a multiple of "
				 "2 MiB from 8 MiB to 64 GiB");
	if (config->working_set_bytes % PVMM_PAGE_BYTES)
		return pvmm_fail(err, -EINVAL,
				 "config.working_set_bytes must be a multiple "
				 "of 4096");
	if (config->write_bytes % 8 || config->write_bytes > MAX_WRITE_BYTES)
		return pvmm_fail(err, -EINVAL,
				 "config.write_bytes must be a multiple of 8 "
				 "up to %d",
				 MAX_WRITE_BYTES);
	if (config->tick_hz > MAX_TICK_HZ)
		return pvmm_fail(err, -EINVAL, "config.tick_hz is above %d",
				 MAX_TICK_HZ);
	if (config->rate_pages_per_s > MAX_RATE_PAGES_PER_S)
		return pvmm_fail(err, -EINVAL,
				 "config.rate_pages_per_s is above 2^32; use "
				 "PVMM_UNLIMITED");
	if (config->ring_entries & (config->ring_entries - 1))
		return pvmm_fail(err, -EINVAL,
				 "config.ring_entries must be a power of two");
	return 0;
}

static uint64_t round_up_page(uint64_t size_bytes)
{
	return (size_bytes + PVMM_PAGE_BYTES - 1) & ~(PVMM_PAGE_BYTES - 1ull);
}

/* Shadow counters of all vCPUs first, then their slices, without gaps. */
static void place_slices(struct pvmm_plan *plan)
{
	const struct pvmm_config *config = &plan->config;
	uint64_t n_pages = config->working_set_bytes / PVMM_PAGE_BYTES;
	uint64_t offset = PVMM_LOW_BYTES;

	for (uint32_t i = 0; i < config->n_vcpus; i++) {
		struct pvmm_slice *slice = &plan->slices[i];

		slice->n_pages = n_pages / config->n_vcpus +
				 (i < n_pages % config->n_vcpus);
		slice->shadow = offset;
		offset += round_up_page(slice->n_pages * 8);
	}
	for (uint32_t i = 0; i < config->n_vcpus; i++) {
		plan->slices[i].offset = offset;
		offset += plan->slices[i].n_pages * PVMM_PAGE_BYTES;
	}
	plan->end_offset = offset;
}

static int check_slices(const struct pvmm_plan *plan, struct pmig_error *err)
{
	const struct pvmm_config *config = &plan->config;

	if (config->working_set_bytes > config->memory_bytes ||
	    plan->end_offset > config->memory_bytes)
		return pvmm_fail(err, -EINVAL,
				 "config.working_set_bytes and its shadow "
				 "counters need %llu bytes more than there are",
				 (unsigned long long)(plan->end_offset -
						      config->memory_bytes));
	if (config->program != PVMM_PROGRAM_IDLE &&
	    config->working_set_bytes / PVMM_PAGE_BYTES < config->n_vcpus)
		return pvmm_fail(err, -EINVAL,
				 "config.working_set_bytes must hold a page "
				 "for each vCPU");
	return 0;
}

/* Writes move by PVMM_PARTIAL_BYTES as long as the last one fits. */
static void plan_partial(struct pvmm_plan *plan)
{
	uint64_t room = MAX_WRITE_BYTES - plan->config.write_bytes;
	uint64_t span = PVMM_PARTIAL_BYTES;

	while (2 * span - PVMM_PARTIAL_BYTES <= room)
		span *= 2;
	plan->partial_mask = span - PVMM_PARTIAL_BYTES;
	plan->partial_words = plan->config.write_bytes / 8;
}

uint64_t pvmm_partial_offset(const struct pvmm_plan *plan, uint64_t version)
{
	return PVMM_PARTIAL_BYTES +
	       ((version * PVMM_PARTIAL_BYTES) & plan->partial_mask);
}

int pvmm_plan(const struct pvmm_config *config, struct pvmm_plan *plan,
	      struct pmig_error *err)
{
	int rc;

	memset(plan, 0, sizeof(*plan));
	rc = copy_config(config, &plan->config, err);
	if (!rc)
		rc = check_enums(&plan->config, err);
	if (!rc)
		rc = check_sizes(&plan->config, err);
	if (rc)
		return rc;
	place_slices(plan);
	plan_partial(plan);
	plan->per_tick =
		(uint64_t)(((__uint128_t)plan->config.rate_pages_per_s << 32) /
			   plan->config.n_vcpus / plan->config.tick_hz);
	if (plan->config.program == PVMM_PROGRAM_IDLE) {
		plan->per_tick = 0;
		plan->config.flags &= ~(uint32_t)PVMM_UNLIMITED;
	}
	return check_slices(plan, err);
}
