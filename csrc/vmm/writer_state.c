/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/writer.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "vmm/error.h"
#include "vmm/vm.h"

#define WRITER_VERSION 1
#define CLOCK_ITEM     "vmm/clock"
#define CLOCK_VERSION  1
#define NS_PER_S       1000000000ull

static_assert(sizeof(struct pvmm_registers) == 72, "size of a writer's item");

/* When the state was saved, in the machine's time and in the world's. */
struct saved_clock {
	uint64_t tsc_ns;
	uint64_t realtime_ns;
};

static uint64_t realtime_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void item_name(char *name, size_t size_bytes, uint32_t index)
{
	snprintf(name, size_bytes, "vmm/writer/%u", index);
}

int pvmm_writers_save(const struct pvmm *vm, struct pmig_state *state,
		      struct pmig_error *err)
{
	struct saved_clock clock = {
		.tsc_ns = pvmm_writers_tsc(&vm->writers),
		.realtime_ns = realtime_ns(),
	};
	char name[32];
	int rc;

	rc = pmig_state_add(state, CLOCK_ITEM, CLOCK_VERSION, 0, &clock,
			    sizeof(clock), err);
	for (uint32_t i = 0; !rc && i < vm->plan.config.n_vcpus; i++) {
		item_name(name, sizeof(name), i);
		rc = pmig_state_add(state, name, WRITER_VERSION, 0,
				    &vm->writers.registers[i],
				    sizeof(vm->writers.registers[i]), err);
	}
	return rc;
}

static int find(const struct pmig_state *state, const char *name,
		uint32_t version, void *data, size_t size_bytes,
		struct pmig_error *err)
{
	struct pmig_item item;

	if (pmig_state_find(state, name, &item))
		return pvmm_fail(err, -EINVAL, "the state has no item %s",
				 name);
	if (item.version != version || item.size_bytes != size_bytes)
		return pvmm_fail(err, -ENOTSUP,
				 "state item %s has version %u and %llu bytes, "
				 "expected %u and %zu",
				 name, item.version,
				 (unsigned long long)item.size_bytes, version,
				 size_bytes);
	memcpy(data, item.data, size_bytes);
	return 0;
}

/* The world's clock says how long the machine stood still. */
static void set_clock(struct pvmm_writers *writers,
		      const struct saved_clock *clock)
{
	uint64_t now = realtime_ns();
	uint64_t tsc = clock->tsc_ns;

	if (now > clock->realtime_ns)
		tsc += now - clock->realtime_ns;
	writers->clock_offset_ns = 0;
	writers->clock_offset_ns = tsc - pvmm_writers_tsc(writers);
}

int pvmm_writers_load(struct pvmm *vm, const struct pmig_state *state,
		      struct pmig_error *err)
{
	struct pvmm_registers registers[PVMM_MAX_VCPUS];
	struct saved_clock clock;
	char name[32];
	int rc;

	rc = find(state, CLOCK_ITEM, CLOCK_VERSION, &clock, sizeof(clock), err);
	for (uint32_t i = 0; !rc && i < vm->plan.config.n_vcpus; i++) {
		item_name(name, sizeof(name), i);
		rc = find(state, name, WRITER_VERSION, &registers[i],
			  sizeof(registers[i]), err);
		if (!rc &&
		    registers[i].position >= vm->plan.slices[i].n_pages &&
		    registers[i].position)
			rc = pvmm_fail(err, -EBADMSG,
				       "state item %s is past its slice", name);
	}
	if (rc)
		return rc;
	memcpy(vm->writers.registers, registers,
	       vm->plan.config.n_vcpus * sizeof(registers[0]));
	set_clock(&vm->writers, &clock);
	return 0;
}
