/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer_pair.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unit.h"

static void make_tracker(struct transfer_pair *pair)
{
	const struct pmig_dirty_config config = {
		.struct_size = sizeof(config),
		.tracker = PMIG_TRACKER_MARKED,
		.vm_fd = -1,
		.uffd = -1,
	};
	struct pmig_error err;

	CHECK_OK(pmig_dirty_new(pair->source.memory, &config, &pair->dirty,
				&err),
		 err);
	CHECK_OK(pmig_dirty_start(pair->dirty, &err), err);
	CHECK_OK(pmig_view_new(pair->dirty, &pair->view, &err), err);
}

void pair_open(struct transfer_pair *pair, size_t size_bytes, bool shared,
	       uint32_t n_channels)
{
	memset(pair, 0, sizeof(*pair));
	guest_memory_open(&pair->source, size_bytes, shared);
	guest_memory_open(&pair->destination, size_bytes, shared);
	make_tracker(pair);
	pair->n_channels = n_channels;
	pair->tuning.struct_size = sizeof(pair->tuning);
	pair->encodings = 1 << PMIG_ENCODING_RAW;
}

static void connect_channels(struct transfer_pair *pair)
{
	struct pmig_error err;

	for (uint32_t i = 0; i < pair->n_channels; i++) {
		int *fds = pair->fds[i];

		CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
		CHECK_OK(pmig_channel_from_socket(fds[0], &pair->out[i], &err),
			 err);
		CHECK_OK(pmig_channel_from_socket(fds[1], &pair->in[i], &err),
			 err);
	}
}

void pair_connect(struct transfer_pair *pair)
{
	const struct pmig_sender_config out = {
		.struct_size = sizeof(out),
		.n_channels = pair->n_channels,
		.channels = pair->out,
		.session_id = {1, 2, 3},
		.stall_timeout_ms = 5000,
		.flags = pair->flags,
		.encodings = pair->encodings,
		.tuning = &pair->tuning,
		.delta_memory_bytes = pair->delta_memory_bytes,
	};
	const struct pmig_receiver_config in = {
		.struct_size = sizeof(in),
		.n_channels = pair->n_channels,
		.channels = pair->in,
		.session_id = {1, 2, 3},
		.stall_timeout_ms = 5000,
	};
	struct pmig_error err;

	connect_channels(pair);
	CHECK_OK(pmig_receiver_new(pair->destination.memory, &in,
				   &pair->receiver, &err),
		 err);
	CHECK_OK(pmig_sender_new(pair->source.memory, pair->view, &out,
				 &pair->sender, &err),
		 err);
}

void pair_close(struct transfer_pair *pair)
{
	pmig_sender_free(pair->sender);
	pmig_receiver_free(pair->receiver);
	for (uint32_t i = 0; i < pair->n_channels; i++) {
		pmig_channel_free(pair->out[i]);
		pmig_channel_free(pair->in[i]);
		if (pair->out[i])
			close(pair->fds[i][0]);
		if (pair->in[i])
			close(pair->fds[i][1]);
	}
	pmig_view_free(pair->view);
	pmig_dirty_free(pair->dirty);
	guest_memory_close(&pair->source);
	guest_memory_close(&pair->destination);
}

void pair_round(struct transfer_pair *pair, enum pmig_epoch_kind kind,
		struct pmig_round *round, struct pmig_event *event)
{
	struct pmig_error err;

	CHECK_OK(pmig_sender_round(pair->sender, kind, round, &err), err);
	do {
		CHECK_OK(pmig_receiver_wait(pair->receiver, 5000, event, &err),
			 err);
	} while (event->kind == PMIG_EVENT_BLOB ||
		 event->kind == PMIG_EVENT_POPULATED);
	CHECK_EQ(event->kind, PMIG_EVENT_EPOCH);
	CHECK_EQ(event->epoch, round->epoch);
	CHECK_EQ(event->epoch_kind, kind);
	CHECK_EQ(event->pages, round->sent_pages);
	CHECK_EQ(event->digest, round->digest);
	pmig_view_commit(pair->view);
}

void pair_check_equal(const struct transfer_pair *pair)
{
	size_t pages = pair->source.size_bytes / PMIG_PAGE_BYTES;

	for (size_t i = 0; i < pages; i++) {
		size_t at = i * PMIG_PAGE_BYTES;

		if (memcmp(pair->source.hva + at, pair->destination.hva + at,
			   PMIG_PAGE_BYTES) != 0)
			UNIT_FAIL("page %zu differs", i);
	}
}

void pair_mark(struct transfer_pair *pair, size_t first_page, size_t n_pages)
{
	CHECK_EQ(pmig_dirty_mark(pair->dirty, first_page * PMIG_PAGE_BYTES,
				 n_pages * PMIG_PAGE_BYTES),
		 0);
}
