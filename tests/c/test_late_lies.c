/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A destination that says what cannot be, on the channel on which it asks: the
 * source ends that connection with a sentence, and lacks nothing for the next.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "late_pair.h"
#include "stream/frame.h"
#include "unit.h"

enum {
	N_BLOCKS = 8,
	N_PAGES = N_BLOCKS * PMIG_BLOCK_PAGES,
	SIZE_BYTES = N_PAGES * PMIG_PAGE_BYTES,
	URGENT = LATE_CHANNELS - 1,
};

/**
 * struct lie - a frame, and why it is refused
 * @type:	of the frame
 * @head:	or NULL
 * @head_bytes:	of it
 * @body_bytes:	that it claims to have
 * @sequence:	0 is the first, and right
 * @why:	part of the sentence
 */
struct lie {
	enum pmig_frame_type type;
	const void *head;
	uint32_t head_bytes;
	uint32_t body_bytes;
	uint64_t sequence;
	const char *why;
};

#define PLACED(...)  &(const struct wire_placed){__VA_ARGS__}, 16
#define REQUEST(...) &(const struct wire_request){__VA_ARGS__}, 24

static void tell(const struct late_pair *pair, const struct lie *lie)
{
	_Alignas(8) uint8_t room[WIRE_HEADER_BYTES + 64];
	struct frame *frame = (void *)room;
	ssize_t bytes;

	frame_begin(frame, lie->type, lie->head_bytes, lie->body_bytes,
		    lie->sequence);
	if (lie->head_bytes)
		memcpy(frame->head, lie->head, lie->head_bytes);
	frame_finish(frame);
	bytes = (ssize_t)frame_bytes(frame);
	CHECK_EQ(write(pair->fds[URGENT][1], frame, (size_t)bytes), bytes);
}

static void check_lie(const struct lie *lie)
{
	struct late_pair pair;
	struct pmig_error err;

	late_open(&pair, BACKING_MEMFD, SIZE_BYTES, 0);
	late_fill(&pair, 0, N_PAGES, 7);
	late_leave_all(&pair);
	tell(&pair, lie);
	late_send(&pair);
	late_join(&pair);
	CHECK_EQ(pair.late_rc, -EBADMSG);
	if (!strstr(pair.late_err.message, lie->why))
		UNIT_FAIL("not \"%s\" but: %s", lie->why,
			  pair.late_err.message);

	late_disconnect(&pair, true);
	CHECK_OK(pmig_faults_start(pair.faults, &err), err);
	late_reconnect(&pair);
	late_send(&pair);
	for (uint64_t page = 0; page < N_PAGES; page++)
		CHECK(late_same(&pair, page));
	late_wait(&pair);
	late_close(&pair);
}

static void check_lies(const struct lie *lies, size_t n)
{
	for (size_t i = 0; i < n; i++)
		check_lie(&lies[i]);
}

static void test_placed(void)
{
	static const uint8_t short_head[8];
	const struct lie lies[] = {
		{PMIG_FRAME_PLACED, PLACED(1, LATE_CHANNELS, 0), 0, 0,
		 "PLACED frame: channel number out of range"},
		{PMIG_FRAME_PLACED, PLACED(1, UINT32_MAX, 0), 0, 0,
		 "channel number out of range"},
		{PMIG_FRAME_PLACED, PLACED(1, 0, 1), 0, 0,
		 "a reserved field is set"},
		{PMIG_FRAME_PLACED, short_head, 8, 0, 0,
		 "its head has the wrong size"},
		{PMIG_FRAME_PLACED, PLACED(1, 0, 0), 0, 1, "where 0 was due"},
	};

	check_lies(lies, sizeof(lies) / sizeof(lies[0]));
}

static void test_request(void)
{
	const struct lie lies[] = {
		{PMIG_FRAME_REQUEST, REQUEST(1, 0, 1, 0), 0, 0,
		 "region number out of range"},
		{PMIG_FRAME_REQUEST, REQUEST(1, SIZE_BYTES, 0, 0), 0, 0,
		 "offset outside its region"},
		{PMIG_FRAME_REQUEST, REQUEST(1, PMIG_PAGE_BYTES, 0, 0), 0, 0,
		 "offset outside its region"},
		{PMIG_FRAME_REQUEST, REQUEST(0, 0, 0, 0), 0, 0,
		 "impossible page mask"},
		{PMIG_FRAME_REQUEST, REQUEST(1, 0, 0, 0x80), 0, 0,
		 "unknown flags"},
	};

	check_lies(lies, sizeof(lies) / sizeof(lies[0]));
}

static void test_what_is_no_request(void)
{
	static const uint8_t long_head[64];
	const struct lie lies[] = {
		{PMIG_FRAME_ARRIVED, PLACED(0, 0, 0), 0, 0,
		 "its head has the wrong size"},
		{PMIG_FRAME_SERVED, PLACED(0, 0, 0), 0, 0, "among requests"},
		{PMIG_FRAME_PAGES, long_head, sizeof(long_head), 0, 0,
		 "a request of 64 bytes"},
		{PMIG_FRAME_REQUEST, REQUEST(1, 0, 0, 0), 4096, 0,
		 "a request of"},
	};

	check_lies(lies, sizeof(lies) / sizeof(lies[0]));
}

int main(void)
{
	return unit_run(
		(struct unit_test[]){UNIT(test_placed), UNIT(test_request),
				     UNIT(test_what_is_no_request), UNIT_END});
}
