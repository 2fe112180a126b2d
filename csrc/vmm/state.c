/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.c - everything that migrates besides memory
 *
 * "vmm/config" says which machine the state belongs to; loading it into
 * another one is refused. The devices add "vmm/serial" and "vmm/sequencer",
 * the threads backend "vmm/clock" and "vmm/writer/N", and the KVM backend
 * has the library add "kvm/...".
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/error.h"
#include "vmm/vm.h"

#define CONFIG_ITEM    "vmm/config"
#define CONFIG_VERSION 1

/* What source and destination must have in common; no padding. */
struct saved_config {
	uint64_t memory_bytes;
	uint64_t working_set_bytes;
	uint64_t seed;
	uint32_t n_vcpus;
	uint32_t backend;
	uint32_t program;
	uint32_t content;
	uint32_t write_bytes;
	uint32_t keeps_log;
};

static_assert(sizeof(struct saved_config) == 48, "size of the config item");

static struct saved_config identity(const struct pvmm *vm)
{
	const struct pvmm_config *config = &vm->plan.config;

	return (struct saved_config){
		.memory_bytes = config->memory_bytes,
		.working_set_bytes = config->working_set_bytes,
		.seed = config->seed,
		.n_vcpus = config->n_vcpus,
		.backend = config->backend,
		.program = config->program,
		.content = config->content,
		.write_bytes = config->write_bytes,
		.keeps_log = config->tracker == PMIG_TRACKER_MARKED,
	};
}

static int differs(struct pmig_error *err, const char *what, uint64_t theirs,
		   uint64_t ours)
{
	if (theirs == ours)
		return 0;
	return pvmm_fail(err, -EINVAL,
			 "the state is of a machine with %s %llu, this one "
			 "has %llu",
			 what, (unsigned long long)theirs,
			 (unsigned long long)ours);
}

static int compare(const struct saved_config *theirs,
		   const struct saved_config *ours, struct pmig_error *err)
{
	const struct {
		const char *name;
		uint64_t theirs, ours;
	} members[] = {
		{"memory_bytes", theirs->memory_bytes, ours->memory_bytes},
		{"n_vcpus", theirs->n_vcpus, ours->n_vcpus},
		{"backend", theirs->backend, ours->backend},
		{"program", theirs->program, ours->program},
		{"working_set_bytes", theirs->working_set_bytes,
		 ours->working_set_bytes},
		{"content", theirs->content, ours->content},
		{"seed", theirs->seed, ours->seed},
		{"write_bytes", theirs->write_bytes, ours->write_bytes},
		{"a log of its own", theirs->keeps_log, ours->keeps_log},
	};

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		int rc = differs(err, members[i].name, members[i].theirs,
				 members[i].ours);

		if (rc)
			return rc;
	}
	return 0;
}

static int check_config(const struct pvmm *vm, const struct pmig_state *state,
			struct pmig_error *err)
{
	struct saved_config ours = identity(vm);
	struct saved_config theirs;
	struct pmig_item item;

	if (pmig_state_find(state, CONFIG_ITEM, &item))
		return pvmm_fail(err, -EINVAL, "the state has no item %s",
				 CONFIG_ITEM);
	if (item.version != CONFIG_VERSION || item.size_bytes != sizeof(theirs))
		return pvmm_fail(err, -ENOTSUP,
				 "state item %s has version %u, known is %d",
				 CONFIG_ITEM, item.version, CONFIG_VERSION);
	memcpy(&theirs, item.data, sizeof(theirs));
	return compare(&theirs, &ours, err);
}

static bool starts_with(const char *name, const char *prefix)
{
	return !strncmp(name, prefix, strlen(prefix));
}

static bool is_known(const struct pvmm *vm, const char *name)
{
	if (pvmm_is_kvm(vm) ? starts_with(name, "kvm/")
			    : starts_with(name, "vmm/writer/") ||
				      !strcmp(name, "vmm/clock"))
		return true;
	return !strcmp(name, CONFIG_ITEM) || !strcmp(name, "vmm/serial") ||
	       !strcmp(name, "vmm/sequencer");
}

/* Unknown kvm/ items are the library's to judge. */
static int check_names(const struct pvmm *vm, const struct pmig_state *state,
		       struct pmig_error *err)
{
	struct pmig_item item;

	for (uint32_t i = 0; !pmig_state_item(state, i, &item); i++) {
		if (is_known(vm, item.name) || item.flags & PMIG_ITEM_SKIPPABLE)
			continue;
		return pvmm_fail(err, -ENOTSUP,
				 "state item %s is unknown to this machine",
				 item.name);
	}
	return 0;
}

static int save_items(struct pvmm *vm, struct pmig_state *state,
		      struct pmig_error *err)
{
	struct saved_config config = identity(vm);
	int rc;

	rc = pmig_state_add(state, CONFIG_ITEM, CONFIG_VERSION, 0, &config,
			    sizeof(config), err);
	if (!rc && pvmm_is_kvm(vm))
		rc = pmig_kvm_save(&vm->kvm.api, state, err);
	else if (!rc)
		rc = pvmm_writers_save(vm, state, err);
	return rc ? rc : pvmm_devices_save(&vm->devices, state, err);
}

static int check_paused(struct pvmm *vm, struct pmig_error *err)
{
	if (pvmm_runner_paused(&vm->runner))
		return 0;
	return pvmm_fail(err, -EBUSY, "the machine must be paused for this");
}

int pvmm_save(struct pvmm *vm, struct pmig_state **state,
	      struct pmig_error *err)
{
	int rc = check_paused(vm, err);

	if (!rc)
		rc = pmig_state_new(state, err);
	if (rc)
		return rc;
	rc = save_items(vm, *state, err);
	if (rc) {
		pmig_state_free(*state);
		*state = NULL;
	}
	return rc;
}

int pvmm_load(struct pvmm *vm, const struct pmig_state *state, char **skipped,
	      struct pmig_error *err)
{
	int rc = check_paused(vm, err);

	if (skipped)
		*skipped = NULL;
	if (!rc)
		rc = check_names(vm, state, err);
	if (!rc)
		rc = check_config(vm, state, err);
	if (!rc)
		rc = pvmm_devices_load(&vm->devices, state, err);
	if (!rc && pvmm_is_kvm(vm))
		rc = pmig_kvm_load(&vm->kvm.api, state, skipped, err);
	else if (!rc)
		rc = pvmm_writers_load(vm, state, err);
	return rc;
}

/* From here on the guest's next beat measures how long it stood still. */
static void clear_gaps(struct pvmm *vm)
{
	for (uint32_t i = 0; i < vm->plan.config.n_vcpus; i++) {
		void *page = pvmm_heartbeat_page(vm, i);

		*pvmm_word(page, H_FIRST_GAP) = 0;
		*pvmm_word(page, H_MAX_GAP) = 0;
		*pvmm_word(page, H_MAX_GAP_AT) = 0;
		pvmm_track_wrote(vm, (uint64_t)((uint8_t *)page - vm->ram.base),
				 PVMM_PAGE_BYTES);
	}
}

int pvmm_before_run(struct pvmm *vm, struct pmig_error *err)
{
	int rc = check_paused(vm, err);

	if (rc)
		return rc;
	clear_gaps(vm);
	return pvmm_is_kvm(vm) ? pmig_kvm_before_run(&vm->kvm.api, err) : 0;
}
