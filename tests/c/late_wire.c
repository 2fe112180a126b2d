/* SPDX-License-Identifier: Apache-2.0 */
#include "late_wire.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "page/hash.h"
#include "unit.h"

enum {
	WAIT_MS = 10000,
	ROOM_BYTES = WIRE_HEADER_BYTES + 4096,
};

static void open_faults(struct late_wire *wire)
{
	const struct pmig_faults_config config = {
		.struct_size = sizeof(config),
		.n_handlers = 2,
		.uffd = -1,
	};
	struct pmig_error err;
	int rc = pmig_faults_new(wire->memory, &config, &wire->faults, &err);

	if (rc == -ENOTSUP)
		UNIT_SKIP("%s", err.message);
	CHECK_OK(rc, err);
}

static void open_channels(struct late_wire *wire)
{
	struct pmig_error err;

	for (uint32_t i = 0; i < wire->n_channels; i++) {
		const struct timeval limit = {.tv_sec = WAIT_MS / 1000};

		CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, wire->fds[i]), 0);
		CHECK_EQ(setsockopt(wire->fds[i][0], SOL_SOCKET, SO_SNDTIMEO,
				    &limit, sizeof(limit)),
			 0);
		CHECK_OK(pmig_channel_from_socket(wire->fds[i][1],
						  &wire->channels[i], &err),
			 err);
	}
}

static void begin_stream(struct late_wire *wire, uint32_t channel)
{
	uint8_t head[sizeof(struct wire_stream) + sizeof(struct wire_region)];
	const struct wire_stream stream = {
		.version_major = PMIG_STREAM_VERSION_MAJOR,
		.version_minor = PMIG_STREAM_VERSION_MINOR,
		.channel_index = (uint16_t)channel,
		.channel_count = (uint16_t)wire->n_channels,
		.session_id = {1},
		.page_bytes = PMIG_PAGE_BYTES,
		.block_pages = PMIG_BLOCK_PAGES,
		.region_count = 1,
	};

	memcpy(head, &stream, sizeof(stream));
	frame_put_regions(wire->memory, (void *)(head + sizeof(stream)));
	late_wire_frame(wire, channel, PMIG_FRAME_STREAM, head, sizeof(head),
			0);
}

void late_wire_open(struct late_wire *wire, enum backing backing,
		    uint32_t n_channels)
{
	struct pmig_receiver_config config = {
		.struct_size = sizeof(config),
		.n_channels = n_channels,
		.channels = wire->channels,
		.stall_timeout_ms = WAIT_MS,
		.flags = PMIG_RECEIVER_FRESH,
	};
	struct pmig_error err;

	memset(wire, 0, sizeof(*wire));
	wire->n_channels = n_channels;
	backing_map(&wire->guest, backing, LATE_WIRE_BYTES);
	wire->memory = backing_describe(&wire->guest);
	open_faults(wire);
	open_channels(wire);
	config.faults = wire->faults;
	CHECK_OK(
		pmig_receiver_new(wire->memory, &config, &wire->receiver, &err),
		err);
	for (uint32_t i = 0; i < n_channels; i++)
		begin_stream(wire, i);
}

void late_wire_close(struct late_wire *wire)
{
	pmig_receiver_free(wire->receiver);
	for (uint32_t i = 0; i < wire->n_channels; i++) {
		pmig_channel_free(wire->channels[i]);
		close(wire->fds[i][0]);
		close(wire->fds[i][1]);
	}
	pmig_faults_free(wire->faults);
	pmig_memory_free(wire->memory);
	backing_unmap(&wire->guest);
}

void late_wire_bytes(struct late_wire *wire, uint32_t channel,
		     const void *bytes, size_t n_bytes)
{
	const uint8_t *at = bytes;

	while (n_bytes && !wire->is_broken) {
		ssize_t n =
			send(wire->fds[channel][0], at, n_bytes, MSG_NOSIGNAL);

		/* a receiver that has failed says so where it is asked */
		wire->is_broken = n < 0;
		at += n;
		n_bytes -= (size_t)n;
	}
}

void late_wire_frame(struct late_wire *wire, uint32_t channel,
		     enum pmig_frame_type type, const void *head,
		     uint32_t head_bytes, uint32_t body_bytes)
{
	_Alignas(8) uint8_t room[ROOM_BYTES];
	struct frame *frame = (void *)room;

	CHECK(head_bytes <= sizeof(room) - WIRE_HEADER_BYTES);
	frame_begin(frame, type, head_bytes, body_bytes,
		    wire->sequence[channel]++);
	memcpy(frame->head, head, head_bytes);
	frame_finish(frame);
	late_wire_bytes(wire, channel, frame, frame_bytes(frame));
}

void late_wire_drain(const struct late_wire *wire, uint32_t channel)
{
	int left = 1;

	while (left) {
		CHECK_EQ(ioctl(wire->fds[channel][0], SIOCOUTQ, &left), 0);
		sched_yield();
	}
}

/* Sums of an epoch that has no pages; digest is the bitmap's. */
static void end_sealed(struct late_wire *wire, uint32_t channel,
		       uint64_t digest)
{
	const struct wire_epoch_end end = {
		.epoch = 1,
		.kind = PMIG_EPOCH_SEALED,
		.digest = digest,
	};

	late_wire_frame(wire, channel, PMIG_FRAME_EPOCH_END, &end, sizeof(end),
			0);
}

static uint64_t name_outstanding(struct late_wire *wire, uint64_t pages)
{
	uint64_t words[LATE_WIRE_BLOCKS];
	struct wire_outstanding head = {
		.epoch = 1,
		.encoding = PMIG_ENCODING_RAW,
		.block_count = LATE_WIRE_BLOCKS,
	};

	for (int i = 0; i < LATE_WIRE_BLOCKS; i++)
		words[i] = pages;
	head.bitmap_hash = pmig_hash(words, sizeof(words));
	late_wire_frame(wire, 0, PMIG_FRAME_OUTSTANDING, &head, sizeof(head),
			sizeof(words));
	late_wire_bytes(wire, 0, words, sizeof(words));
	return head.bitmap_hash;
}

static void begin_epoch(struct late_wire *wire, uint64_t number,
			enum pmig_epoch_kind kind)
{
	const struct wire_epoch epoch = {.epoch = number, .kind = kind};

	for (uint32_t i = 0; i < wire->n_channels; i++)
		late_wire_frame(wire, i, PMIG_FRAME_EPOCH, &epoch,
				sizeof(epoch), 0);
}

void late_wire_depart(struct late_wire *wire, uint64_t pages)
{
	struct pmig_event event;
	struct pmig_error err;
	uint64_t digest;

	begin_epoch(wire, 1, PMIG_EPOCH_SEALED);
	digest = name_outstanding(wire, pages);
	for (uint32_t i = 0; i < wire->n_channels; i++)
		end_sealed(wire, i, i == 0 ? digest : 0);
	late_wire_wait(wire, &event);
	CHECK_EQ(event.kind, PMIG_EVENT_EPOCH);
	CHECK_OK(pmig_faults_start(wire->faults, &err), err);
}

void late_wire_begin(struct late_wire *wire)
{
	begin_epoch(wire, 2, PMIG_EPOCH_LATE);
}

void late_wire_pages(struct late_wire *wire, uint32_t channel, uint64_t block,
		     uint64_t pages, uint8_t fill, bool bodies)
{
	struct {
		struct wire_pages pages;
		struct wire_entry entries[PMIG_BLOCK_PAGES];
	} head = {0};
	uint32_t n = (uint32_t)__builtin_popcountll(pages);
	uint8_t page[PMIG_PAGE_BYTES];

	memset(page, fill, sizeof(page));
	head.pages = (struct wire_pages){
		.epoch = 2,
		.offset_bytes = block * PMIG_BLOCK_BYTES,
		.entry_count = n,
		.mask = pages,
	};
	for (uint32_t i = 0; i < n; i++)
		head.entries[i] = (struct wire_entry){
			.hash = pmig_hash(page, sizeof(page)),
			.stored_bytes = PMIG_PAGE_BYTES,
			.encoding = PMIG_ENCODING_RAW,
		};
	late_wire_frame(
		wire, channel, PMIG_FRAME_PAGES, &head,
		(uint32_t)(sizeof(head.pages) + n * sizeof(*head.entries)),
		n * PMIG_PAGE_BYTES);
	for (uint32_t i = 0; bodies && i < n; i++)
		late_wire_bytes(wire, channel, page, sizeof(page));
}

void late_wire_wait(struct late_wire *wire, struct pmig_event *event)
{
	struct pmig_error err;

	event->struct_size = sizeof(*event);
	CHECK_OK(pmig_receiver_wait(wire->receiver, WAIT_MS, event, &err), err);
}

bool late_wire_holds(const struct late_wire *wire, uint64_t page, uint8_t fill)
{
	const uint8_t *bytes = wire->guest.bytes + page * PMIG_PAGE_BYTES;

	for (unsigned int i = 0; i < PMIG_PAGE_BYTES; i++)
		if (bytes[i] != fill)
			return false;
	return true;
}
