/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small valid stream, damaged in every way: cut at every byte, every bit
 * flipped, frames swapped, dropped and repeated. The receiver must refuse
 * each with a sentence, and take the undamaged one. One kind of damage is
 * mended by the stream itself: a page of the fuzzy epoch that comes again in
 * the sealed one. Then the memory must be right.
 */
#include <errno.h>
#include <string.h>

#include "guest_memory.h"
#include "stream/wire.h"
#include "unit.h"

enum {
	SIZE_BYTES = 2 * PMIG_BLOCK_BYTES,
	MAX_FRAMES = 32
};

/* A stream in memory and where its frames begin. */
struct sample {
	uint8_t *data;
	size_t size;
	size_t begin[MAX_FRAMES + 1];
	size_t n_frames;
	uint8_t memory[SIZE_BYTES]; /* what must arrive */
};

static void find_frames(struct sample *sample)
{
	size_t at = 0;

	sample->n_frames = 0;
	while (at < sample->size) {
		struct wire_header header;

		CHECK(sample->n_frames < MAX_FRAMES);
		memcpy(&header, sample->data + at, sizeof(header));
		sample->begin[sample->n_frames++] = at;
		at += sizeof(header) + header.head_bytes + header.body_bytes;
	}
	CHECK_EQ(at, sample->size);
	sample->begin[sample->n_frames] = at;
}

static void send_rounds(struct pmig_sender *sender, struct guest_memory *guest,
			struct pmig_dirty *dirty)
{
	struct pmig_round round;
	struct pmig_error err;

	CHECK_OK(pmig_sender_hint(sender, &err), err);
	CHECK_OK(pmig_sender_put(sender, PMIG_FRAME_CONFIG, "{}", 2, &err),
		 err);
	CHECK_OK(pmig_sender_round(sender, PMIG_EPOCH_FUZZY, &round, &err),
		 err);
	guest->hva[5] ^= 1;
	CHECK_EQ(pmig_dirty_mark(dirty, 0, 1), 0);
	CHECK_OK(pmig_sender_put(sender, PMIG_FRAME_STATE, "state", 5, &err),
		 err);
	CHECK_OK(pmig_sender_round(sender, PMIG_EPOCH_SEALED, &round, &err),
		 err);
	CHECK_OK(pmig_sender_end(sender, &err), err);
}

static void keep(struct sample *sample, const struct pmig_channel *channel)
{
	const void *data = pmig_channel_memory_data(channel, &sample->size);

	sample->data = malloc(sample->size);
	CHECK(sample->data);
	memcpy(sample->data, data, sample->size);
	find_frames(sample);
}

static void make_sample(struct sample *sample)
{
	const struct pmig_dirty_config tracking = {
		.struct_size = sizeof(tracking),
		.tracker = PMIG_TRACKER_MARKED,
		.vm_fd = -1,
		.uffd = -1,
	};
	struct pmig_sender_config config = {
		.struct_size = sizeof(config),
		.n_channels = 1,
	};
	struct pmig_channel *channel;
	struct guest_memory guest;
	struct pmig_sender *sender;
	struct pmig_dirty *dirty;
	struct pmig_error err;
	struct pmig_view *view;

	guest_memory_open(&guest, SIZE_BYTES, true);
	guest_memory_fill(&guest, 0, 2, 1);
	memset(guest.hva + 70 * PMIG_PAGE_BYTES, 0, PMIG_PAGE_BYTES);
	CHECK_OK(pmig_dirty_new(guest.memory, &tracking, &dirty, &err), err);
	CHECK_OK(pmig_dirty_start(dirty, &err), err);
	CHECK_OK(pmig_view_new(dirty, &view, &err), err);
	CHECK_OK(pmig_channel_memory(NULL, 0, &channel, &err), err);
	config.channels = &channel;
	CHECK_OK(pmig_sender_new(guest.memory, view, &config, &sender, &err),
		 err);
	send_rounds(sender, &guest, dirty);
	memcpy(sample->memory, guest.hva, SIZE_BYTES);
	keep(sample, channel);
	pmig_sender_free(sender);
	pmig_channel_free(channel);
	pmig_view_free(view);
	pmig_dirty_free(dirty);
	guest_memory_close(&guest);
}

/* 0 when the whole stream is taken, else the error. */
static int receive(const struct sample *sample, const uint8_t *data,
		   size_t size, struct pmig_error *err)
{
	struct pmig_receiver_config config = {
		.struct_size = sizeof(config),
		.n_channels = 1,
		.flags = PMIG_RECEIVER_FRESH,
	};
	struct pmig_event event = {0};
	struct pmig_receiver *receiver;
	struct pmig_channel *channel;
	struct guest_memory guest;
	int rc = 0;

	guest_memory_open(&guest, SIZE_BYTES, true);
	CHECK_OK(pmig_channel_memory(data, size, &channel, err), *err);
	config.channels = &channel;
	CHECK_OK(pmig_receiver_new(guest.memory, &config, &receiver, err),
		 *err);
	while (!rc && event.kind != PMIG_EVENT_END) {
		rc = pmig_receiver_wait(receiver, 5000, &event, err);
		if (!rc && event.kind == PMIG_EVENT_NONE)
			UNIT_FAIL("the receiver hangs");
	}
	if (!rc)
		rc = pmig_receiver_wait(receiver, 0, &event, err);
	pmig_receiver_free(receiver);
	pmig_channel_free(channel);
	if (!rc && memcmp(guest.hva, sample->memory, SIZE_BYTES) != 0)
		UNIT_FAIL("a damaged page was taken");
	guest_memory_close(&guest);
	return rc;
}

static void check_refused(const struct sample *sample, const uint8_t *data,
			  size_t size, const char *what, size_t where)
{
	struct pmig_error err = {0};
	int rc = receive(sample, data, size, &err);

	if (rc != -EBADMSG && rc != -EPIPE)
		UNIT_FAIL("%s at %zu: rc %d", what, where, rc);
	if (err.message[0] == '\0')
		UNIT_FAIL("%s at %zu: no sentence", what, where);
}

static void test_whole_is_taken(void)
{
	struct pmig_error err = {0};
	static struct sample sample;

	make_sample(&sample);
	CHECK_OK(receive(&sample, sample.data, sample.size, &err), err);
	free(sample.data);
}

/* Every byte that is not the inside of a page, and a few of those. */
static bool is_worth_trying(const struct sample *sample, size_t at)
{
	size_t frame = 0;
	struct wire_header header;

	while (sample->begin[frame + 1] <= at)
		frame++;
	memcpy(&header, sample->data + sample->begin[frame], sizeof(header));
	return at < sample->begin[frame] + sizeof(header) + header.head_bytes ||
	       at % 511 == 0;
}

static void test_cut_anywhere(void)
{
	static struct sample sample;

	make_sample(&sample);
	for (size_t at = 0; at < sample.size; at++)
		if (is_worth_trying(&sample, at))
			check_refused(&sample, sample.data, at, "cut", at);
	free(sample.data);
}

/* Inside the body of the fuzzy epoch's page 0, which is sent again. */
static bool is_sent_again(const struct sample *sample, size_t at)
{
	size_t frame = 0;
	struct wire_header header;
	size_t body;

	do {
		memcpy(&header, sample->data + sample->begin[frame++],
		       sizeof(header));
	} while (header.type != PMIG_FRAME_PAGES);
	body = sample->begin[frame - 1] + sizeof(header) + header.head_bytes;
	return at >= body && at < body + PMIG_PAGE_BYTES;
}

static void check_mended(const struct sample *sample)
{
	struct pmig_error err = {0};

	CHECK_OK(receive(sample, sample->data, sample->size, &err), err);
}

static void test_flip_any_bit(void)
{
	static struct sample sample;

	make_sample(&sample);
	for (size_t at = 0; at < sample.size; at++) {
		unsigned int bit = at % 8;

		if (!is_worth_trying(&sample, at))
			continue;
		if (is_sent_again(&sample, at)) {
			sample.data[at] ^= 1u << bit;
			check_mended(&sample);
			sample.data[at] ^= 1u << bit;
			continue;
		}
		sample.data[at] ^= 1u << bit;
		check_refused(&sample, sample.data, sample.size, "flip", at);
		sample.data[at] ^= 1u << bit;
	}
	free(sample.data);
}

static size_t copy_frame(uint8_t *to, const struct sample *sample, size_t n)
{
	size_t bytes = sample->begin[n + 1] - sample->begin[n];

	memcpy(to, sample->data + sample->begin[n], bytes);
	return bytes;
}

static void test_frames_dropped_repeated_swapped(void)
{
	static struct sample sample;
	uint8_t *data;

	make_sample(&sample);
	data = malloc(2 * sample.size);
	CHECK(data);
	for (size_t odd = 0; odd < sample.n_frames; odd++) {
		size_t dropped = 0, doubled = 0, swapped = 0;

		for (size_t n = 0; n < sample.n_frames; n++)
			if (n != odd)
				dropped +=
					copy_frame(data + dropped, &sample, n);
		check_refused(&sample, data, dropped, "drop", odd);
		for (size_t n = 0; n < sample.n_frames; n++) {
			doubled += copy_frame(data + doubled, &sample, n);
			if (n == odd)
				doubled +=
					copy_frame(data + doubled, &sample, n);
		}
		check_refused(&sample, data, doubled, "repeat", odd);
		for (size_t n = 0; n < sample.n_frames; n++) {
			size_t take = n;

			if (n == odd && n + 1 < sample.n_frames)
				take = n + 1;
			else if (n == odd + 1)
				take = n - 1;
			swapped += copy_frame(data + swapped, &sample, take);
		}
		if (odd + 1 < sample.n_frames)
			check_refused(&sample, data, swapped, "swap", odd);
	}
	free(data);
	free(sample.data);
}

static void test_something_after_the_end(void)
{
	static struct sample sample;
	uint8_t *data;

	make_sample(&sample);
	data = malloc(sample.size + 1);
	CHECK(data);
	memcpy(data, sample.data, sample.size);
	data[sample.size] = 0;
	check_refused(&sample, data, sample.size + 1, "trailing byte",
		      sample.size);
	free(data);
	free(sample.data);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_whole_is_taken), UNIT(test_cut_anywhere),
		UNIT(test_flip_any_bit),
		UNIT(test_frames_dropped_repeated_swapped),
		UNIT(test_something_after_the_end), UNIT_END});
}
