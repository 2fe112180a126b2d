/* SPDX-License-Identifier: Apache-2.0 */
/* receiver.c - the public calls of a receiver; theory in receiver.h */
#include "transfer/receiver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cpus.h"
#include "base/error.h"
#include "base/thread.h"

enum {
	DEFAULT_STALL_MS = 30000
};

static int check_config(const struct pmig_receiver_config *config,
			struct pmig_error *err)
{
	if (config->struct_size < sizeof(*config))
		return pmig_fail(err, -EINVAL,
				 "pmig_receiver_config.struct_size is not set");
	if (config->n_channels == 0 || config->n_channels > PMIG_MAX_CHANNELS)
		return pmig_fail(err, -EINVAL,
				 "%u channels, 1 to %d are possible",
				 config->n_channels, PMIG_MAX_CHANNELS);
	if (config->stall_timeout_ms > INT32_MAX || config->reserved ||
	    (config->flags & ~(uint32_t)PMIG_RECEIVER_FRESH))
		return pmig_fail(err, -EINVAL,
				 "pmig_receiver_config: value out of range");
	return 0;
}

static int allocate_buffers(struct reader *reader, struct pmig_error *err)
{
	reader->frame = malloc(WIRE_HEADER_BYTES + WIRE_MAX_HEAD_BYTES);
	if (reader->receiver->faults)
		reader->staging = malloc(PMIG_BLOCK_BYTES);
	if (!reader->frame || (reader->receiver->faults && !reader->staging))
		return pmig_fail(err, -ENOMEM, "no memory for read buffers");
	return page_decoder_init(&reader->decoder, err);
}

static void release_buffers(struct reader *reader)
{
	page_decoder_fini(&reader->decoder);
	free(reader->staging);
	free(reader->frame);
}

static int start_reader(struct pmig_receiver *receiver, uint32_t index,
			const struct pmig_receiver_config *config,
			struct pmig_error *err)
{
	struct reader *reader = &receiver->readers[index];
	int rc;

	reader->receiver = receiver;
	reader->index = index;
	reader->channel = config->channels[index];
	reader->idle.cancel_fd = receiver->cancel_fd;
	reader->idle.stall_ms = -1;
	reader->wait.cancel_fd = receiver->cancel_fd;
	reader->wait.stall_ms = config->stall_timeout_ms
					? (int)config->stall_timeout_ms
					: DEFAULT_STALL_MS;
	rc = allocate_buffers(reader, err);
	if (rc)
		return rc;
	rc = pmig_thread_start(&reader->thread, "recv", index, reader_main,
			       reader, err);
	reader->started = rc == 0;
	if (!rc)
		rc = pmig_cpus_pin(reader->thread, config->cpus, config->n_cpus,
				   err);
	return rc;
}

static int allocate_bitmaps(struct pmig_receiver *receiver)
{
	uint64_t n = receiver->memory->n_blocks;

	receiver->written = calloc(n, sizeof(*receiver->written));
	receiver->suspect = calloc(n, sizeof(*receiver->suspect));
	receiver->stale = calloc(n, sizeof(*receiver->stale));
	receiver->seen = calloc(n, sizeof(*receiver->seen));
	receiver->described = calloc(n, sizeof(*receiver->described));
	if (!receiver->written || !receiver->suspect || !receiver->stale ||
	    !receiver->seen || !receiver->described)
		return -ENOMEM;
	return 0;
}

static struct pmig_receiver *allocate(const struct pmig_memory *memory,
				      uint32_t n_channels)
{
	struct pmig_receiver *receiver = calloc(1, sizeof(*receiver));

	if (!receiver)
		return NULL;
	receiver->memory = memory;
	receiver->readers = calloc(n_channels, sizeof(*receiver->readers));
	receiver->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (receiver->readers)
		receiver->n_readers = n_channels;
	if (events_init(&receiver->events, n_channels) ||
	    allocate_bitmaps(receiver) || !receiver->readers ||
	    receiver->cancel_fd < 0) {
		pmig_receiver_free(receiver);
		return NULL;
	}
	return receiver;
}

int pmig_receiver_new(const struct pmig_memory *memory,
		      const struct pmig_receiver_config *config,
		      struct pmig_receiver **out, struct pmig_error *err)
{
	struct pmig_receiver *receiver;
	int rc = check_config(config, err);

	if (rc)
		return rc;
	receiver = allocate(memory, config->n_channels);
	if (!receiver)
		return pmig_fail(err, -ENOMEM,
				 "no memory or descriptor for a receiver");
	memcpy(receiver->session_id, config->session_id, PMIG_SESSION_ID_BYTES);
	receiver->faults = config->faults;
	/* what came with an earlier receiver belongs to the guest */
	if (!(config->flags & PMIG_RECEIVER_FRESH) &&
	    !(config->faults && faults_are_handled(config->faults)))
		rc = pmig_memory_discard(memory, 0, memory->n_blocks, err);
	for (uint32_t i = 0; i < config->n_channels && !rc; i++)
		rc = start_reader(receiver, i, config, err);
	if (rc) {
		pmig_receiver_cancel(receiver);
		pmig_receiver_free(receiver);
		return rc;
	}
	*out = receiver;
	return 0;
}

int pmig_receiver_wait(struct pmig_receiver *receiver, int timeout_ms,
		       struct pmig_event *event, struct pmig_error *err)
{
	int rc;

	free(receiver->blob);
	receiver->blob = NULL;
	rc = events_take(&receiver->events, timeout_ms, event, err);
	receiver->blob = (uint8_t *)event->data;
	return rc;
}

uint32_t pmig_receiver_stale(const struct pmig_receiver *receiver,
			     struct pmig_block_pages *list, uint32_t capacity)
{
	uint32_t n = 0;

	for (uint64_t i = 0; i < receiver->memory->n_blocks; i++) {
		if (!receiver->stale[i])
			continue;
		if (n == capacity)
			break;
		list[n++] = (struct pmig_block_pages){i, receiver->stale[i]};
	}
	return n;
}

void pmig_receiver_cancel(struct pmig_receiver *receiver)
{
	struct pmig_error cancelled;

	pmig_fail(&cancelled, -ECANCELED, "the transfer was cancelled");
	events_fail(&receiver->events, &cancelled);
	eventfd_write(receiver->cancel_fd, 1);
}

static void stop_readers(struct pmig_receiver *receiver)
{
	for (uint32_t i = 0; i < receiver->n_readers; i++) {
		struct reader *reader = &receiver->readers[i];

		if (reader->started)
			pthread_join(reader->thread, NULL);
		release_buffers(reader);
	}
}

void pmig_receiver_free(struct pmig_receiver *receiver)
{
	if (!receiver)
		return;
	if (receiver->cancel_fd >= 0)
		pmig_receiver_cancel(receiver);
	stop_readers(receiver);
	prefault_stop(&receiver->prefault);
	events_fini(&receiver->events);
	if (receiver->cancel_fd >= 0)
		close(receiver->cancel_fd);
	free(receiver->blob);
	free(receiver->described);
	free((void *)receiver->seen);
	free(receiver->stale);
	free(receiver->suspect);
	free(receiver->written);
	free(receiver->readers);
	free(receiver);
}
