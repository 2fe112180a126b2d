/* SPDX-License-Identifier: Apache-2.0 */
/* sender_new.c - making and ending a sender; theory in sender.h */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cpus.h"
#include "base/error.h"
#include "base/numa.h"
#include "base/thread.h"
#include "transfer/sender.h"

enum {
	DEFAULT_STALL_MS = 30000,
};

static int check_config(const struct pmig_sender_config *config,
			struct pmig_error *err)
{
	if (config->struct_size < sizeof(*config))
		return pmig_fail(err, -EINVAL,
				 "pmig_sender_config.struct_size is not set");
	if (config->n_channels == 0 || config->n_channels > PMIG_MAX_CHANNELS)
		return pmig_fail(err, -EINVAL,
				 "%u channels, 1 to %d are possible",
				 config->n_channels, PMIG_MAX_CHANNELS);
	if (config->flags & PMIG_SENDER_LATE && config->n_channels < 2)
		return pmig_fail(err, -EINVAL,
				 "late pages take a second channel, for those "
				 "that are urgent");
	if (config->stall_timeout_ms > INT32_MAX ||
	    (config->flags &
	     ~(uint32_t)(PMIG_SENDER_ONE_WAY | PMIG_SENDER_LATE)) ||
	    (config->encodings & ~(uint32_t)PMIG_ENCODINGS_ALL))
		return pmig_fail(err, -EINVAL,
				 "pmig_sender_config: value out of range");
	return 0;
}

/* The opening frame of one channel. */
static int open_channel(struct pmig_sender *sender, uint32_t index,
			const uint8_t *session_id, struct pmig_error *err)
{
	uint32_t head_bytes = frame_stream_head_bytes(sender->memory);
	struct wire_stream *stream = calloc(1, head_bytes);
	int rc;

	if (!stream)
		return pmig_fail(err, -ENOMEM, "no memory for a frame");
	*stream = (struct wire_stream){
		.version_major = PMIG_STREAM_VERSION_MAJOR,
		.version_minor = PMIG_STREAM_VERSION_MINOR,
		.channel_index = (uint16_t)index,
		.channel_count = (uint16_t)sender->n_workers,
		.page_bytes = PMIG_PAGE_BYTES,
		.block_pages = PMIG_BLOCK_PAGES,
		.region_count = sender->memory->n_maps,
	};
	memcpy(stream->session_id, session_id, PMIG_SESSION_ID_BYTES);
	frame_put_regions(sender->memory, (struct wire_region *)(stream + 1));
	rc = outbox_write(&sender->workers[index].box, PMIG_FRAME_STREAM,
			  stream, head_bytes, NULL, 0, err);
	free(stream);
	return rc;
}

/* The encodings that may be used: bit e for encoding e. */
static uint32_t readable(const struct pmig_sender_config *config)
{
	uint32_t encodings = config->encodings | 1 << PMIG_ENCODING_RAW;

	if (config->flags & PMIG_SENDER_ONE_WAY)
		encodings &= ~(uint32_t)(1 << PMIG_ENCODING_UNCHANGED |
					 1 << PMIG_ENCODING_DELTA |
					 1 << PMIG_ENCODING_COPY);
	return encodings;
}

static int start_worker(struct pmig_sender *sender, uint32_t index,
			const struct pmig_sender_config *config,
			struct pmig_error *err)
{
	struct send_worker *worker = &sender->workers[index];
	const struct channel_wait wait = {
		.cancel_fd = sender->cancel_fd,
		.stall_ms = config->stall_timeout_ms
				    ? (int)config->stall_timeout_ms
				    : DEFAULT_STALL_MS,
	};
	int rc;

	worker->sender = sender;
	worker->index = index;
	rc = encoder_init(&worker->encoder,
			  sender->has_prints ? &sender->prints : NULL,
			  readable(config), err);
	tuning_refresh(&sender->tuning, &worker->encoder.tuning);
	if (!rc)
		rc = outbox_init(&worker->box, config->channels[index], &wait,
				 &sender->pace, err);
	if (config->flags & PMIG_SENDER_ONE_WAY && config->n_channels == 1)
		worker->box.catalogue = &sender->catalogue;
	if (!rc)
		rc = channel_zero_copy(config->channels[index],
				       sender->tuning.value.zero_copy, err);
	if (!rc)
		rc = open_channel(sender, index, config->session_id, err);
	if (!rc)
		rc = pmig_thread_start(&worker->thread, "send", index,
				       send_worker_main, worker, err);
	worker->started = rc == 0;
	if (!rc)
		rc = pmig_cpus_pin(worker->thread, config->cpus, config->n_cpus,
				   err);
	return rc;
}

static struct pmig_sender *allocate(const struct pmig_memory *memory,
				    struct pmig_view *view, uint32_t n_channels)
{
	/* the keys of fingerprints are read with aligned vector loads */
	struct pmig_sender *sender =
		aligned_alloc(_Alignof(struct pmig_sender), sizeof(*sender));

	if (!sender)
		return NULL;
	memset(sender, 0, sizeof(*sender));
	sender->workers = calloc(n_channels, sizeof(*sender->workers));
	sender->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&sender->lock, NULL);
	pthread_cond_init(&sender->wake, NULL);
	pthread_cond_init(&sender->more, NULL);
	pthread_cond_init(&sender->idle, NULL);
	pace_init(&sender->pace);
	climate_init(&sender->climate);
	sender->memory = memory;
	sender->view = view;
	sender->n_workers = n_channels;
	sender->independent =
		calloc(memory->n_blocks, sizeof(*sender->independent));
	if (!sender->workers || !sender->independent || sender->cancel_fd < 0 ||
	    hold_init(&sender->hold, memory->n_blocks)) {
		sender->n_workers = 0;
		pmig_sender_free(sender);
		return NULL;
	}
	return sender;
}

/* What the workers share. */
static int prepare(struct pmig_sender *sender,
		   const struct pmig_sender_config *config,
		   struct pmig_error *err)
{
	bool late = config->flags & PMIG_SENDER_LATE;
	int rc;

	sender->n_pushers = config->n_channels - late;
	rc = tuning_init(&sender->tuning, config->tuning, sender->n_pushers,
			 err);
	if (!rc)
		rc = sender_late_init(&sender->late, sender->memory, late, err);
	if (rc)
		return rc;
	pace_set(&sender->pace,
		 sender->tuning.value.bandwidth_limit_bytes_per_s);
	governor_init(&sender->governor, sender->n_pushers,
		      sender->climate.n_cpus);
	sender->n_active = sender->tuning.value.active_channels;
	if (!sender->n_active)
		sender->n_active = sender->governor.active;
	sender->follow_nodes = config->n_cpus == 0 && pmig_numa_matters();
	sender->has_prints = readable(config) >> PMIG_ENCODING_DELTA & 1;
	if (!sender->has_prints)
		return 0;
	return prints_init(&sender->prints, sender->memory,
			   config->delta_memory_bytes, err);
}

int pmig_sender_new(const struct pmig_memory *memory, struct pmig_view *view,
		    const struct pmig_sender_config *config,
		    struct pmig_sender **out, struct pmig_error *err)
{
	struct pmig_sender *sender;
	int rc = check_config(config, err);

	if (rc)
		return rc;
	sender = allocate(memory, view, config->n_channels);
	if (!sender)
		return pmig_fail(err, -ENOMEM,
				 "no memory or descriptor for a sender");
	rc = prepare(sender, config, err);
	for (uint32_t i = 0; i < config->n_channels && !rc; i++)
		rc = start_worker(sender, i, config, err);
	if (rc) {
		pmig_sender_free(sender);
		return rc;
	}
	*out = sender;
	return 0;
}

static void stop_workers(struct pmig_sender *sender)
{
	pthread_mutex_lock(&sender->lock);
	sender->stopping = true;
	pthread_cond_broadcast(&sender->wake);
	pthread_mutex_unlock(&sender->lock);
	sender_late_wake(&sender->late, false);
	for (uint32_t i = 0; i < sender->n_workers; i++) {
		if (sender->workers[i].started)
			pthread_join(sender->workers[i].thread, NULL);
		outbox_fini(&sender->workers[i].box);
		encoder_fini(&sender->workers[i].encoder);
	}
}

void pmig_sender_free(struct pmig_sender *sender)
{
	if (!sender)
		return;
	stop_workers(sender);
	if (sender->cancel_fd >= 0)
		close(sender->cancel_fd);
	pthread_cond_destroy(&sender->idle);
	pthread_cond_destroy(&sender->more);
	pthread_cond_destroy(&sender->wake);
	pthread_mutex_destroy(&sender->lock);
	tuning_fini(&sender->tuning);
	climate_fini(&sender->climate);
	pace_fini(&sender->pace);
	if (sender->has_prints)
		prints_fini(&sender->prints);
	catalogue_fini(&sender->catalogue);
	free(sender->independent);
	hold_fini(&sender->hold);
	sender_late_fini(&sender->late);
	free(sender->workers);
	free(sender);
}
