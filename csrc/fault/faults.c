/* SPDX-License-Identifier: Apache-2.0 */
/* faults.c - what is asked of it from outside; theory in faults.h */
#include "fault/faults.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "base/cpus.h"
#include "base/error.h"
#include "base/thread.h"
#include "fault/pages.h"

static int check_config(const struct pmig_faults_config *config,
			struct pmig_error *err)
{
	if (config->struct_size < sizeof(*config))
		return pmig_fail(err, -EINVAL,
				 "pmig_faults_config.struct_size is not set");
	if (config->n_handlers > FAULT_MAX_HANDLERS)
		return pmig_fail(err, -EINVAL,
				 "%u handlers of faults, at most %d are "
				 "possible",
				 config->n_handlers, FAULT_MAX_HANDLERS);
	if ((config->uffd < 0) != (config->bases == NULL))
		return pmig_fail(err, -EINVAL,
				 "a userfaultfd of another process comes with "
				 "the addresses of the regions there");
	if (config->uffd < 0 && config->record)
		return pmig_fail(err, -EINVAL,
				 "a record is kept of memory of another "
				 "process only");
	return 0;
}

/* As many as can listen at once; another process has one for all. */
static uint32_t count_handlers(const struct pmig_faults_config *config)
{
	unsigned int cpus = pmig_cpus_usable();

	if (config->uffd >= 0)
		return 1;
	if (config->n_handlers)
		return config->n_handlers;
	return cpus < FAULT_MAX_HANDLERS ? cpus : FAULT_MAX_HANDLERS;
}

static int allocate(struct pmig_faults *faults, struct pmig_error *err)
{
	uint64_t n = faults->memory->n_blocks;

	pthread_rwlock_init(&faults->events_lock, NULL);
	pthread_mutex_init(&faults->unit_lock, NULL);
	pthread_mutex_init(&faults->lock, NULL);
	pthread_mutex_init(&faults->life, NULL);
	pmig_cond_init(&faults->changed);
	ask_init(&faults->ask);
	faults->missing = calloc(n, sizeof(*faults->missing));
	faults->kept = calloc(n, sizeof(*faults->kept));
	faults->asked = calloc(n, sizeof(*faults->asked));
	faults->probes = calloc(n, sizeof(*faults->probes));
	faults->landings =
		calloc(faults->memory->n_maps, sizeof(*faults->landings));
	faults->advice =
		calloc(faults->memory->n_maps, sizeof(*faults->advice));
	faults->handlers =
		calloc(FAULT_MAX_HANDLERS, sizeof(*faults->handlers));
	faults->touched =
		calloc(PMIG_MAX_TOUCHED_PAGES, sizeof(*faults->touched));
	faults->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	faults->started_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!faults->missing || !faults->kept || !faults->asked ||
	    !faults->probes || !faults->landings || !faults->advice ||
	    !faults->handlers || !faults->touched || faults->stop_fd < 0 ||
	    faults->started_fd < 0)
		return pmig_fail(err, -ENOMEM,
				 "no memory or descriptor to handle faults");
	for (uint32_t i = 0; i < FAULT_MAX_HANDLERS; i++)
		faults->handlers[i].fd = -1;
	return 0;
}

static int open_landings(struct pmig_faults *faults,
			 const struct pmig_faults_config *config,
			 struct pmig_error *err)
{
	bool may_map = !(config->flags & PMIG_FAULTS_NO_MINOR) &&
		       faults_can_map(faults->memory);

	for (uint32_t i = 0; i < faults->memory->n_maps; i++) {
		int rc = landing_open(
			&faults->landings[i], &faults->memory->maps[i],
			config->bases ? config->bases[i] : 0, may_map, err);

		faults->n_landings = i + 1;
		if (rc)
			return rc;
	}
	return 0;
}

int pmig_faults_new(const struct pmig_memory *memory,
		    const struct pmig_faults_config *config,
		    struct pmig_faults **out, struct pmig_error *err)
{
	struct pmig_faults *faults;
	int rc = check_config(config, err);

	if (rc)
		return rc;
	faults = calloc(1, sizeof(*faults));
	if (!faults)
		return pmig_fail(err, -ENOMEM, "no memory to handle faults");
	faults->memory = memory;
	faults->stop_fd = -1;
	faults->started_fd = -1;
	faults->foreign = config->uffd >= 0;
	faults->record = config->record;
	faults->n_handlers = count_handlers(config);
	rc = allocate(faults, err);
	if (!rc)
		rc = open_landings(faults, config, err);
	if (!rc && faults->foreign)
		faults->handlers[0].fd = config->uffd;
	else if (!rc)
		rc = faults_open_uffds(faults, err);
	if (rc) {
		pmig_faults_free(faults);
		return rc;
	}
	*out = faults;
	return 0;
}

static int start_handler(struct pmig_faults *faults, uint32_t index,
			 struct pmig_error *err)
{
	struct fault_handler *handler = &faults->handlers[index];
	int rc;

	handler->faults = faults;
	handler->index = index;
	rc = pmig_thread_start(&handler->thread, "fault", index,
			       fault_handler_main, handler, err);
	handler->started = rc == 0;
	return rc;
}

static int start(struct pmig_faults *faults, struct pmig_error *err)
{
	int rc = 0;

	if (faults->started_ns || faults->abandoned)
		return pmig_fail(err, -EINVAL,
				 faults->abandoned
					 ? "the machine was given up"
					 : "faults are handled already");
	/* nothing becomes outstanding from here on */
	pthread_mutex_lock(&faults->lock);
	faults->started_ns = pmig_now_ns();
	pthread_mutex_unlock(&faults->lock);
	if (faults->foreign) {
		foreign_begin(faults);
		faults->registered = true;
	} else {
		rc = faults_register(faults, err);
	}
	for (uint32_t i = 0; i < faults->n_handlers && !rc; i++)
		rc = start_handler(faults, i, err);
	if (rc)
		return rc;
	if (faults->foreign)
		foreign_wake(faults);
	eventfd_write(faults->started_fd, 1);
	faults_check_complete(faults);
	return 0;
}

int pmig_faults_start(struct pmig_faults *faults, struct pmig_error *err)
{
	int rc;

	pthread_mutex_lock(&faults->life);
	rc = start(faults, err);
	pthread_mutex_unlock(&faults->life);
	return rc;
}

static void stop_handlers(struct pmig_faults *faults)
{
	eventfd_write(faults->stop_fd, 1);
	for (uint32_t i = 0; i < faults->n_handlers; i++) {
		if (faults->handlers[i].started)
			pthread_join(faults->handlers[i].thread, NULL);
		faults->handlers[i].started = false;
	}
}

/* Neither before the block nor behind its last page, which others may own. */
static void forbid_access(const struct pmig_block *block)
{
	uint64_t large_bytes = block->map->region.page_size_bytes;
	uint64_t bytes =
		(uint64_t)__builtin_popcountll(block->valid) * PMIG_PAGE_BYTES;
	uint8_t *start = block->hva;

	/* a larger page as a whole, or not at all */
	if (large_bytes > PMIG_PAGE_BYTES) {
		start -= block->offset_bytes % large_bytes;
		bytes = large_bytes;
	}
	mprotect(start, bytes, PROT_NONE);
}

/*
 * The kernel would make zeros of what is missing once nobody handles faults
 * any more. A guest that runs on must fail instead.
 */
static void seal_off(struct pmig_faults *faults)
{
	for (uint64_t i = 0; i < faults->memory->n_blocks; i++) {
		struct pmig_block block;

		if (faults->missing[i] &&
		    pmig_memory_locate(faults->memory, i, &block) &&
		    faults_landing(faults, &block)->own)
			forbid_access(&block);
	}
}

void pmig_faults_abandon(struct pmig_faults *faults)
{
	pthread_mutex_lock(&faults->life);
	faults->abandoned = true;
	stop_handlers(faults);
	faults_unregister(faults);
	pthread_mutex_unlock(&faults->life);
}

void pmig_faults_free(struct pmig_faults *faults)
{
	if (!faults)
		return;
	if (faults->handlers && faults->stop_fd >= 0)
		stop_handlers(faults);
	if (faults->missing && !faults->abandoned)
		seal_off(faults);
	/* whoever waits goes on, and finds what is there */
	if (!faults->foreign) {
		faults_unregister(faults);
		/* memory that never was registered was prepared all the same */
		faults_restore_huge_pages(faults);
	} else if (faults->complete_ns || faults->abandoned) {
		foreign_end(faults);
	}
	for (uint32_t i = 0; faults->handlers && i < FAULT_MAX_HANDLERS; i++)
		if (!faults->foreign && faults->handlers[i].fd >= 0)
			close(faults->handlers[i].fd);
	for (uint32_t i = 0; i < faults->n_landings; i++)
		landing_close(&faults->landings[i]);
	if (faults->stop_fd >= 0)
		close(faults->stop_fd);
	if (faults->started_fd >= 0)
		close(faults->started_fd);
	ask_fini(&faults->ask);
	pthread_cond_destroy(&faults->changed);
	pthread_mutex_destroy(&faults->life);
	pthread_mutex_destroy(&faults->lock);
	pthread_mutex_destroy(&faults->unit_lock);
	pthread_rwlock_destroy(&faults->events_lock);
	free(faults->touched);
	free(faults->handlers);
	free(faults->advice);
	free(faults->landings);
	free(faults->probes);
	free(faults->asked);
	free(faults->kept);
	free(faults->missing);
	free(faults);
}

int pmig_faults_expect(struct pmig_faults *faults, uint64_t first_block,
		       uint64_t n_blocks, const uint64_t *bitmap,
		       struct pmig_error *err)
{
	int rc = pmig_memory_check_range(faults->memory, first_block, n_blocks,
					 err);

	if (rc)
		return rc;
	return faults_outstanding(faults, first_block, bitmap, n_blocks, NULL,
				  err);
}

/* What somebody else was asked for before. */
static void ask_again(struct pmig_faults *faults)
{
	pthread_mutex_lock(&faults->lock);
	memset(faults->asked, 0,
	       faults->memory->n_blocks * sizeof(*faults->asked));
	faults_ask_waiting(faults);
	if (!faults->n_missing && faults->started_ns)
		ask_no_more(&faults->ask);
	pthread_mutex_unlock(&faults->lock);
}

void pmig_faults_attach(struct pmig_faults *faults,
			struct pmig_channel *channel)
{
	ask_attach(&faults->ask, channel);
	if (channel)
		ask_again(faults);
}

void faults_attach_sink(struct pmig_faults *faults, const struct ask_sink *sink)
{
	ask_attach_sink(&faults->ask, sink);
	if (sink)
		ask_again(faults);
}

int pmig_faults_wait(struct pmig_faults *faults, int timeout_ms,
		     struct pmig_error *err)
{
	struct timespec at = pmig_deadline(timeout_ms);
	int rc = 0;

	pthread_mutex_lock(&faults->lock);
	while (!faults->failed.code && !faults->complete_ns && !rc)
		rc = timeout_ms < 0
			     ? pthread_cond_wait(&faults->changed,
						 &faults->lock)
			     : pthread_cond_timedwait(&faults->changed,
						      &faults->lock, &at);
	if (faults->failed.code) {
		rc = faults->failed.code;
		if (err)
			*err = faults->failed;
	} else if (rc) {
		rc = pmig_fail(err, -ETIMEDOUT,
			       "%llu pages of the guest are missing",
			       (unsigned long long)faults->n_missing);
	}
	pthread_mutex_unlock(&faults->lock);
	return rc;
}
