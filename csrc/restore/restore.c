/* SPDX-License-Identifier: Apache-2.0 */
/* restore.c - the public calls; theory in restore.h */
#include "restore/restore.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"

static int check_config(const struct pmig_restore_config *config,
			struct pmig_error *err)
{
	if (config->struct_size < sizeof(*config))
		return pmig_fail(err, -EINVAL,
				 "pmig_restore_config.struct_size is not set");
	if (config->flags &
	    ~(uint32_t)(PMIG_RESTORE_FRESH | PMIG_RESTORE_NO_FILL))
		return pmig_fail(err, -EINVAL,
				 "pmig_restore_config: unknown flags");
	if (config->format != PMIG_RESTORE_STREAM &&
	    config->format != PMIG_RESTORE_RAW)
		return pmig_fail(err, -EINVAL,
				 "%" PRIu32 " is no format of a file of memory",
				 config->format);
	if ((config->format == PMIG_RESTORE_RAW) != (config->offsets != NULL))
		return pmig_fail(err, -EINVAL,
				 "memory as it is comes with the offsets of "
				 "its regions, a stream without");
	return 0;
}

static int copy_first_pages(struct pmig_restore *restore,
			    const struct pmig_restore_config *config,
			    struct pmig_error *err)
{
	uint64_t n = config->n_first_pages;
	uint64_t n_pages = restore->memory->n_blocks * PMIG_BLOCK_PAGES;

	if (!config->first_pages || !n)
		return 0;
	for (uint64_t i = 0; i < n; i++)
		if (config->first_pages[i] >= n_pages)
			return pmig_fail(err, -EINVAL,
					 "page %" PRIu64
					 " is to be read first, and memory has "
					 "%" PRIu64,
					 config->first_pages[i], n_pages);
	restore->first_pages = calloc(n, sizeof(*restore->first_pages));
	restore->first =
		calloc(restore->memory->n_blocks, sizeof(*restore->first));
	if (!restore->first_pages || !restore->first)
		return pmig_fail(err, -ENOMEM,
				 "no memory for a list of %" PRIu64 " pages",
				 n);
	memcpy(restore->first_pages, config->first_pages,
	       n * sizeof(*restore->first_pages));
	restore->n_first_pages = n;
	for (uint64_t i = 0; i < n; i++)
		restore->first[config->first_pages[i] / PMIG_BLOCK_PAGES] |=
			restore_cluster(config->first_pages[i]);
	return 0;
}

static int open_store(struct pmig_restore *restore,
		      const struct pmig_restore_config *config,
		      struct pmig_error *err)
{
	uint64_t began_ns = pmig_now_ns();
	int rc;

	if (config->format == PMIG_RESTORE_RAW)
		rc = raw_store_new(restore->memory, config->fd, config->offsets,
				   &restore->store, err);
	else
		rc = stream_store_new(restore->memory, config->fd,
				      &restore->store, err);
	restore->index_ns = pmig_now_ns() - began_ns;
	return rc;
}

/* All that the file holds is missing from now on. */
static int name_pages(struct pmig_restore *restore, bool fresh,
		      struct pmig_error *err)
{
	uint64_t n_blocks = restore->memory->n_blocks;
	const uint64_t *stored = restore->store->stored;
	int rc = 0;

	if (!fresh && !restore->faults->foreign)
		rc = pmig_memory_discard(restore->memory, 0, n_blocks, err);
	if (!rc)
		rc = faults_outstanding_untouched(restore->faults, stored, err);
	/* of another process's memory some may be there already */
	for (uint64_t i = 0; i < n_blocks; i++)
		restore->todo[i] =
			faults_missing(restore->faults, i, stored[i]);
	restore->stored_pages = pmig_bitmap_count(stored, n_blocks);
	return rc;
}

static int prepare(struct pmig_restore *restore,
		   const struct pmig_restore_config *config,
		   struct pmig_error *err)
{
	uint64_t n_blocks = restore->memory->n_blocks;
	int rc = copy_first_pages(restore, config, err);

	restore->todo = calloc(n_blocks, sizeof(*restore->todo));
	if (!rc &&
	    (!restore->todo || restore_queue_init(&restore->queue, n_blocks)))
		rc = pmig_fail(err, -ENOMEM, "no memory for a restore");
	if (!rc)
		rc = store_bench_init(&restore->answer.bench, err);
	if (!rc)
		rc = store_bench_init(&restore->filler.bench, err);
	if (!rc)
		rc = open_store(restore, config, err);
	if (!rc)
		rc = name_pages(restore, config->flags & PMIG_RESTORE_FRESH,
				err);
	return rc;
}

int pmig_restore_new(const struct pmig_memory *memory,
		     struct pmig_faults *faults,
		     const struct pmig_restore_config *config,
		     struct pmig_restore **out, struct pmig_error *err)
{
	struct pmig_restore *restore;
	int rc = check_config(config, err);

	if (rc)
		return rc;
	restore = calloc(1, sizeof(*restore));
	if (!restore)
		return pmig_fail(err, -ENOMEM, "no memory for a restore");
	restore->memory = memory;
	restore->faults = faults;
	restore->hold_fill = config->flags & PMIG_RESTORE_NO_FILL;
	restore->fill_bytes_per_s = config->fill_bytes_per_s;
	restore->answer.restore = restore;
	restore->filler.restore = restore;
	restore->sink =
		(struct ask_sink){restore_request, restore_no_more, restore};
	pthread_mutex_init(&restore->lock, NULL);
	pmig_cond_init(&restore->asked);
	pmig_cond_init(&restore->calm);
	rc = prepare(restore, config, err);
	if (rc) {
		pmig_restore_free(restore);
		return rc;
	}
	faults_attach_sink(faults, &restore->sink);
	restore->attached = true;
	*out = restore;
	return 0;
}

int pmig_restore_state(const struct pmig_restore *restore, const uint8_t **data,
		       uint64_t *size_bytes, struct pmig_error *err)
{
	if (!restore->store->state)
		return pmig_fail(err, -ENOENT,
				 "the file holds no state of the machine");
	*data = restore->store->state;
	*size_bytes = restore->store->state_bytes;
	return 0;
}

/* What is placed before is lost. */
static bool can_place(const struct pmig_faults *faults)
{
	struct pollfd fd = {.fd = faults->started_fd, .events = POLLIN};

	return poll(&fd, 1, 0) == 1;
}

void pmig_restore_fill(struct pmig_restore *restore)
{
	pthread_mutex_lock(&restore->lock);
	if (!restore->fill_ns)
		restore->fill_ns = restore->busy_ns = pmig_now_ns();
	pthread_cond_broadcast(&restore->calm);
	pthread_mutex_unlock(&restore->lock);
}

static int start_worker(struct restore_worker *worker, unsigned int index,
			void *(*body)(void *), struct pmig_error *err)
{
	int rc = pmig_thread_start(&worker->thread, "restore", index, body,
				   worker, err);

	worker->started = rc == 0;
	return rc;
}

int pmig_restore_start(struct pmig_restore *restore, struct pmig_error *err)
{
	int rc;

	if (restore->answer.started)
		return pmig_fail(err, -EINVAL, "the restore runs already");
	if (!can_place(restore->faults))
		return pmig_fail(err, -EINVAL,
				 "faults are not handled yet: "
				 "pmig_faults_start() comes first");
	restore->started_ns = pmig_now_ns();
	if (!restore->hold_fill)
		pmig_restore_fill(restore);
	rc = start_worker(&restore->answer, 0, restore_answer_main, err);
	if (!rc)
		rc = start_worker(&restore->filler, 1, restore_fill_main, err);
	return rc;
}

int pmig_restore_wait(struct pmig_restore *restore, int timeout_ms,
		      struct pmig_error *err)
{
	return pmig_faults_wait(restore->faults, timeout_ms, err);
}

void pmig_restore_cancel(struct pmig_restore *restore)
{
	struct pmig_error err;

	restore_end(restore);
	pmig_fail(&err, -ECANCELED, "the restore was cancelled");
	if (pmig_faults_missing_pages(restore->faults))
		faults_fail(restore->faults, &err);
}

void pmig_restore_report(const struct pmig_restore *restore,
			 struct pmig_restore_report *report)
{
	*report = (struct pmig_restore_report){
		.struct_size = sizeof(*report),
		.stored_pages = restore->stored_pages,
		.frames = restore->store->n_frames,
		.has_index = restore->store->has_index,
		.index_ns = restore->index_ns,
		.answered_pages = restore->answered,
		.prefetched_pages = restore->prefetched,
		.filled_pages = restore->filled,
		.prefetch_ns = restore->prefetch_ns,
		.read_bytes =
			restore->answer.read_bytes + restore->filler.read_bytes,
	};
}

static void stop_worker(struct restore_worker *worker)
{
	if (worker->started)
		pthread_join(worker->thread, NULL);
	store_bench_fini(&worker->bench);
}

void pmig_restore_free(struct pmig_restore *restore)
{
	if (!restore)
		return;
	if (restore->answer.started)
		pmig_restore_cancel(restore);
	stop_worker(&restore->answer);
	stop_worker(&restore->filler);
	if (restore->attached)
		faults_attach_sink(restore->faults, NULL);
	store_free(restore->store);
	restore_queue_fini(&restore->queue);
	pthread_cond_destroy(&restore->calm);
	pthread_cond_destroy(&restore->asked);
	pthread_mutex_destroy(&restore->lock);
	free(restore->first);
	free(restore->first_pages);
	free(restore->todo);
	free(restore);
}
