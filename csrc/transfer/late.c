/* SPDX-License-Identifier: Apache-2.0 */
/* late.c - pages that come while the guest runs; theory in fault/faults.h */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "page/hash.h"
#include "transfer/arrival.h"
#include "transfer/receiver.h"

enum {
	/* give a page by what it held before */
	RESTING = 1 << PMIG_ENCODING_UNCHANGED | 1 << PMIG_ENCODING_DELTA,
};

static int no_faults(struct pmig_error *err)
{
	return pmig_fail(err, -EBADMSG,
			 "the stream has pages that come late, for which this "
			 "receiver was not made (pmig_receiver_config.faults)");
}

/* ---- outstanding pages ------------------------------------------------- */

/* The bitmap into words; body has room for any. */
static int decode_bitmap(struct reader *reader,
			 const struct wire_outstanding *outstanding,
			 uint8_t *body, uint64_t *words, struct pmig_error *err)
{
	uint32_t plain_bytes =
		(uint32_t)(outstanding->block_count * sizeof(*words));
	bool raw = outstanding->encoding == PMIG_ENCODING_RAW;
	struct iovec iov = {raw ? (void *)words : body,
			    reader->frame->header.body_bytes};
	int rc = reader_read(reader, &iov, 1, err);

	if (!rc && !raw)
		rc = decompressor_run(
			reader->decoder.decompressor, PMIG_ENCODING_ZSTD, body,
			reader->frame->header.body_bytes, words, plain_bytes);
	if (rc == -EBADMSG ||
	    (!rc && pmig_hash(words, plain_bytes) != outstanding->bitmap_hash))
		return pmig_fail(err, -EBADMSG,
				 "the bitmap of outstanding pages was damaged "
				 "on the way");
	return rc;
}

int reader_outstanding(struct reader *reader, struct pmig_error *err)
{
	struct pmig_receiver *receiver = reader->receiver;
	const struct wire_outstanding *outstanding;
	uint64_t first_block, *words;
	int rc = frame_parse_outstanding(reader->frame, receiver->memory,
					 &outstanding, &first_block, err);

	if (rc)
		return rc;
	if (outstanding->epoch != reader->part.epoch)
		return pmig_fail(err, -EBADMSG,
				 "outstanding pages of another epoch");
	if (!receiver->faults)
		return no_faults(err);
	/* what was withdrawn must not be allocated again */
	prefault_end(&receiver->prefault);
	words = malloc(2 * PMIG_BLOCK_BYTES);
	if (!words)
		return pmig_fail(err, -ENOMEM, "no memory for a bitmap");
	rc = decode_bitmap(reader, outstanding,
			   (uint8_t *)words + PMIG_BLOCK_BYTES, words, err);
	if (!rc)
		rc = faults_outstanding(receiver->faults, first_block, words,
					outstanding->block_count,
					receiver->written, err);
	/* what they hold is of no account any more */
	for (uint64_t i = 0; i < outstanding->block_count && !rc; i++)
		reader_doubt(reader, first_block + i, words[i], 0, 0);
	reader->part.digest += outstanding->bitmap_hash;
	reader->part.outstanding++;
	free(words);
	return rc;
}

/* ---- the late epoch ---------------------------------------------------- */

int reader_await_faults(struct reader *reader, struct pmig_error *err)
{
	struct pmig_faults *faults = reader->receiver->faults;
	struct pollfd fds[2] = {
		{.fd = reader->receiver->cancel_fd, .events = POLLIN},
		{.events = POLLIN},
	};

	if (!faults)
		return no_faults(err);
	fds[1].fd = faults->started_fd;
	/* where nothing came before, nothing is being started */
	while (poll(fds, 2, reader->part.epoch ? -1 : 0) < 0)
		if (errno != EINTR)
			return pmig_fail_errno(err, "cannot wait");
	if (fds[0].revents)
		return pmig_fail(err, -ECANCELED, "cancelled");
	if (!fds[1].revents)
		return pmig_fail(err, -EBADMSG,
				 "the stream begins with late pages, and none "
				 "is missing");
	return 0;
}

/* What unchanged pages and deltas rest on: what was kept of them, or zeros. */
static void fetch_bases(const struct reader *reader,
			const struct arrival *arrival, uint64_t missing)
{
	uint64_t resting = arrival_by_encoding(arrival, RESTING);
	uint64_t left = resting;

	if (!resting)
		return;
	left &= ~faults_fetch_kept(reader->receiver->faults, &arrival->block,
				   arrival->number, resting & missing,
				   arrival->at);
	for (; left; left &= left - 1)
		memset(arrival_page(arrival,
				    (unsigned int)__builtin_ctzll(left)),
		       0, PMIG_PAGE_BYTES);
}

/* Which pages are as they should be; the others are asked for, or damaged. */
static int judge_late(struct reader *reader, const struct arrival *arrival,
		      uint64_t missing, uint64_t *right, struct pmig_error *err)
{
	uint64_t wrong = arrival_mismatches(arrival) & missing;
	uint64_t stale =
		wrong & arrival_by_encoding(arrival, ARRIVAL_DEPENDENT);

	if (wrong & ~stale)
		return arrival_damaged(arrival, wrong & ~stale, "", err);
	if (stale)
		faults_refused(reader->receiver->faults, arrival->number,
			       stale);
	*right = arrival_stored(arrival) & missing & ~stale;
	return 0;
}

/* Any other page the guest may have changed by now. */
static const uint8_t *original_in_frame(const struct arrival *arrival,
					const struct wire_copy *copy)
{
	static const uint8_t zeros[PMIG_PAGE_BYTES];
	const struct reader *reader = arrival->owner;
	unsigned int page;
	uint64_t number;

	if (!arrival_locate_copy(reader->receiver->memory, copy, &number,
				 &page) ||
	    number != arrival->number || !(*arrival->described >> page & 1))
		return NULL;
	/* one that is zero is not put together anywhere */
	if (arrival->pages->zero_mask >> page & 1)
		return zeros;
	return arrival_page(arrival, page);
}

/* What was pushed: the source need not know of each frame. */
static void say_placed(struct reader *reader)
{
	if (!reader_is_urgent(reader) &&
	    reader->part.pages >= reader->told_pages + WIRE_PLACED_PAGES &&
	    faults_say_placed(reader->receiver->faults, reader->index,
			      reader->part.pages))
		reader->told_pages = reader->part.pages;
}

/*
 * Put together in the reader's staging: until it is placed, the guest may give
 * a page back and write to it anew, so that nothing of it may be touched.
 */
int reader_late_pages(struct reader *reader, struct pmig_error *err)
{
	uint64_t arrived_ns = pmig_now_ns(), described, missing, right = 0;
	struct arrival arrival;
	int rc = arrival_begin(reader, &arrival, err);

	if (rc)
		return rc;
	described = arrival.pages->zero_mask;
	arrival.described = &described;
	arrival.original = original_in_frame;
	arrival.at = reader->staging;
	missing = faults_missing(reader->receiver->faults, arrival.number,
				 arrival.pages->mask);
	fetch_bases(reader, &arrival, missing);
	rc = arrival_read(reader, &arrival, err);
	if (!rc)
		rc = arrival_decode(&reader->decoder, &arrival, err);
	if (!rc)
		rc = judge_late(reader, &arrival, missing, &right, err);
	if (rc)
		return rc;
	arrival_count(reader, &arrival);
	rc = faults_land(reader->receiver->faults,
			 &(struct landed){
				 .block = &arrival.block,
				 .number = arrival.number,
				 .pages = right,
				 .zero = arrival.pages->zero_mask & missing,
				 .at = reader->staging,
				 .arrived_ns = arrived_ns,
				 .answer = reader_is_urgent(reader),
				 .waited_ns = reader->waited_ns,
			 },
			 err);
	if (!rc)
		say_placed(reader);
	return rc;
}
