/* SPDX-License-Identifier: Apache-2.0 */
#include "late_pair.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unit.h"

enum {
	WAIT_MS = 20000,
};

static void open_faults(struct late_pair *pair, uint32_t flags)
{
	const struct pmig_faults_config config = {
		.struct_size = sizeof(config),
		.flags = flags,
		.n_handlers = 2,
		.uffd = -1,
	};
	struct pmig_error err;
	int rc = pmig_faults_new(pair->to, &config, &pair->faults, &err);

	if (rc == -ENOTSUP)
		UNIT_SKIP("%s", err.message);
	CHECK_OK(rc, err);
}

void late_open(struct late_pair *pair, enum backing backing,
	       uint64_t size_bytes, uint32_t faults_flags)
{
	const struct pmig_dirty_config config = {
		.struct_size = sizeof(config),
		.tracker = PMIG_TRACKER_MARKED,
		.vm_fd = -1,
		.uffd = -1,
	};
	struct pmig_error err;

	memset(pair, 0, sizeof(*pair));
	backing_map(&pair->source, backing, size_bytes);
	backing_map(&pair->destination, backing, size_bytes);
	pair->from = backing_describe(&pair->source);
	pair->to = backing_describe(&pair->destination);
	pair->n_pages = size_bytes / PMIG_PAGE_BYTES;
	pair->tuning.struct_size = sizeof(pair->tuning);
	CHECK_OK(pmig_dirty_new(pair->from, &config, &pair->dirty, &err), err);
	CHECK_OK(pmig_dirty_start(pair->dirty, &err), err);
	CHECK_OK(pmig_view_new(pair->dirty, &pair->view, &err), err);
	open_faults(pair, faults_flags);
}

void late_connect(struct late_pair *pair)
{
	const struct pmig_sender_config out = {
		.struct_size = sizeof(out),
		.n_channels = LATE_CHANNELS,
		.channels = pair->out,
		.stall_timeout_ms = 5000,
		.flags = PMIG_SENDER_LATE,
		.encodings = PMIG_ENCODINGS_ALL,
		.tuning = &pair->tuning,
	};
	const struct pmig_receiver_config in = {
		.struct_size = sizeof(in),
		.n_channels = LATE_CHANNELS,
		.channels = pair->in,
		.stall_timeout_ms = 5000,
		.flags = PMIG_RECEIVER_FRESH,
		.faults = pair->faults,
	};
	struct pmig_error err;

	for (uint32_t i = 0; i < LATE_CHANNELS; i++) {
		int *fds = pair->fds[i];

		CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
		CHECK_OK(pmig_channel_from_socket(fds[0], &pair->out[i], &err),
			 err);
		CHECK_OK(pmig_channel_from_socket(fds[1], &pair->in[i], &err),
			 err);
	}
	CHECK_OK(pmig_receiver_new(pair->to, &in, &pair->receiver, &err), err);
	pmig_faults_attach(pair->faults, pair->in[LATE_CHANNELS - 1]);
	CHECK_OK(pmig_sender_new(pair->from, pair->view, &out, &pair->sender,
				 &err),
		 err);
}

void late_disconnect(struct late_pair *pair, bool cut)
{
	for (uint32_t i = 0; cut && i < LATE_CHANNELS; i++)
		shutdown(pair->fds[i][0], SHUT_RDWR);
	late_join(pair);
	pmig_faults_attach(pair->faults, NULL);
	pmig_sender_free(pair->sender);
	pmig_receiver_free(pair->receiver);
	pair->sender = NULL;
	pair->receiver = NULL;
	for (uint32_t i = 0; i < LATE_CHANNELS; i++) {
		pmig_channel_free(pair->out[i]);
		pmig_channel_free(pair->in[i]);
		close(pair->fds[i][0]);
		close(pair->fds[i][1]);
	}
}

void late_reconnect(struct late_pair *pair)
{
	uint64_t n_words = pair->n_pages / PMIG_BLOCK_PAGES;
	uint64_t *missing = calloc(n_words, sizeof(*missing));
	struct pmig_error err;

	CHECK(missing);
	CHECK_OK(pmig_faults_missing(pair->faults, 0, n_words, missing, &err),
		 err);
	late_connect(pair);
	CHECK_OK(pmig_sender_owe(pair->sender, 0, n_words, missing, &err), err);
	free(missing);
}

void late_close(struct late_pair *pair)
{
	if (pair->sender)
		late_disconnect(pair, true);
	pmig_faults_free(pair->faults);
	pmig_view_free(pair->view);
	pmig_dirty_free(pair->dirty);
	pmig_memory_free(pair->from);
	pmig_memory_free(pair->to);
	backing_unmap(&pair->source);
	backing_unmap(&pair->destination);
}

void late_round(struct late_pair *pair, enum pmig_epoch_kind kind, bool defer)
{
	struct pmig_event event = {.struct_size = sizeof(event)};
	struct pmig_error err;

	if (defer)
		CHECK_OK(pmig_sender_defer(pair->sender, kind, &pair->round,
					   &err),
			 err);
	else
		CHECK_OK(pmig_sender_round(pair->sender, kind, &pair->round,
					   &err),
			 err);
	do {
		CHECK_OK(pmig_receiver_wait(pair->receiver, WAIT_MS, &event,
					    &err),
			 err);
	} while (event.kind == PMIG_EVENT_POPULATED);
	CHECK_EQ(event.kind, PMIG_EVENT_EPOCH);
	CHECK_EQ(event.epoch_kind, kind);
	CHECK_EQ(event.digest, pair->round.digest);
	if (!defer)
		pmig_view_commit(pair->view);
}

static void *send_late(void *arg)
{
	struct late_pair *pair = arg;

	pair->late_rc = pmig_sender_late(pair->sender, &pair->round,
					 &pair->late, &pair->late_err);
	return NULL;
}

void late_send(struct late_pair *pair)
{
	CHECK_EQ(pthread_create(&pair->late_thread, NULL, send_late, pair), 0);
	pair->is_sending = true;
}

void late_leave_all(struct late_pair *pair)
{
	late_connect(pair);
	late_round(pair, PMIG_EPOCH_FUZZY, true);
	late_round(pair, PMIG_EPOCH_SEALED, true);
}

void late_start(struct late_pair *pair)
{
	struct pmig_error err;

	late_send(pair);
	CHECK_OK(pmig_faults_start(pair->faults, &err), err);
}

void late_join(struct late_pair *pair)
{
	if (pair->is_sending)
		pthread_join(pair->late_thread, NULL);
	pair->is_sending = false;
}

void late_wait(struct late_pair *pair)
{
	struct pmig_error err;

	CHECK_OK(pmig_faults_wait(pair->faults, WAIT_MS, &err), err);
	late_join(pair);
	CHECK_OK(pair->late_rc, pair->late_err);
	CHECK_EQ(pmig_faults_missing_pages(pair->faults), 0);
}

void late_await(struct late_pair *pair, uint64_t n_missing)
{
	struct pmig_error err;

	while (pmig_faults_missing_pages(pair->faults) > n_missing)
		pmig_faults_wait(pair->faults, 1, &err);
}

void late_fill(struct late_pair *pair, uint64_t first_page, uint64_t n_pages,
	       uint64_t seed)
{
	for (uint64_t page = first_page; page < first_page + n_pages; page++) {
		uint64_t *words = (uint64_t *)(pair->source.bytes +
					       page * PMIG_PAGE_BYTES);

		/* a third is noise, a third compresses, a third is zeros */
		for (unsigned int i = 0; i < PMIG_PAGE_BYTES / 8; i++)
			words[i] = page % 3 == 0   ? 0
				   : page % 3 == 1 ? (seed + page) ^ (i / 16)
						   : (seed + page * 512 +
						      i) * 0x9e3779b97f4a7c15u;
	}
	CHECK_EQ(pmig_dirty_mark(pair->dirty, first_page * PMIG_PAGE_BYTES,
				 n_pages * PMIG_PAGE_BYTES),
		 0);
}

bool late_same(const struct late_pair *pair, uint64_t page)
{
	uint64_t at = page * PMIG_PAGE_BYTES;

	return memcmp(pair->source.bytes + at, pair->destination.bytes + at,
		      PMIG_PAGE_BYTES) == 0;
}
