/* SPDX-License-Identifier: Apache-2.0 */
/* apply.c - a PAGES frame into guest memory; theory in receiver.h */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "page/hash.h"
#include "transfer/arrival.h"
#include "transfer/receiver.h"

uint64_t arrival_by_encoding(const struct arrival *arrival, uint32_t encodings)
{
	const struct wire_entry *entry = arrival->entries;
	uint64_t found = 0;

	for (uint64_t left = arrival_stored(arrival); left;
	     left &= left - 1, entry++)
		if (encodings >> entry->encoding & 1)
			found |= left & -left;
	return found;
}

/*
 * In one step, and not by a fault for each page that is written. A block of
 * which something is left out stays as sparse as it comes.
 */
static void allocate_block(struct reader *reader, const struct arrival *arrival)
{
	const struct pmig_receiver *receiver = reader->receiver;

	if (receiver->written[arrival->number] ||
	    arrival_stored(arrival) != arrival->block.valid)
		return;
	/* a failure here is met again, and reported, by the write */
	pmig_memory_populate(receiver->memory, arrival->number, 1, NULL);
}

/* Memory starts as zeros: only a page that was written needs clearing. */
static void clear_pages(struct reader *reader, const struct arrival *arrival)
{
	uint64_t *written = &reader->receiver->written[arrival->number];
	uint64_t clear = arrival->pages->zero_mask & *written;

	for (; clear; clear &= clear - 1)
		memset(arrival_page(arrival,
				    (unsigned int)__builtin_ctzll(clear)),
		       0, PMIG_PAGE_BYTES);
	*written &= ~arrival->pages->zero_mask;
	*written |= arrival->pages->mask & ~arrival->pages->zero_mask;
}

/* Append a piece, to the last one if it lies behind it. */
static int add_piece(struct iovec *iov, int n, uint8_t *base, size_t bytes)
{
	if (n && (uint8_t *)iov[n - 1].iov_base + iov[n - 1].iov_len == base) {
		iov[n - 1].iov_len += bytes;
		return n;
	}
	iov[n] = (struct iovec){base, bytes};
	return n + 1;
}

int arrival_read(struct reader *reader, const struct arrival *arrival,
		 struct pmig_error *err)
{
	const struct wire_entry *entry = arrival->entries;
	struct iovec iov[PMIG_BLOCK_PAGES];
	uint8_t *body = reader->decoder.body;
	int n = 0;

	for (uint64_t left = arrival_stored(arrival); left;
	     left &= left - 1, entry++) {
		uint8_t *to = body;

		if (entry->stored_bytes == 0)
			continue;
		if (entry->encoding == PMIG_ENCODING_RAW)
			to = arrival_page(arrival,
					  (unsigned int)__builtin_ctzll(left));
		else
			body += entry->stored_bytes;
		n = add_piece(iov, n, to, entry->stored_bytes);
	}
	return n ? reader_read(reader, iov, n, err) : 0;
}

uint64_t arrival_mismatches(const struct arrival *arrival)
{
	uint64_t left = arrival_stored(arrival);
	const struct wire_entry *entry = arrival->entries;
	uint64_t wrong = 0;

	for (; left; left &= left - 1, entry++) {
		unsigned int page = (unsigned int)__builtin_ctzll(left);

		if (pmig_hash(arrival_page(arrival, page), PMIG_PAGE_BYTES) !=
		    entry->hash)
			wrong |= 1ull << page;
	}
	return wrong;
}

uint64_t arrival_digest(const struct wire_pages *pages,
			const struct wire_entry *entries)
{
	uint64_t first = pages->offset_bytes / PMIG_PAGE_BYTES;
	uint64_t digest = 0;

	for (uint64_t left = pages->mask; left; left &= left - 1) {
		unsigned int page = (unsigned int)__builtin_ctzll(left);
		bool zero = pages->zero_mask >> page & 1;

		digest += pmig_hash_placed(pages->region, first + page,
					   zero ? 0 : entries++->hash);
	}
	return digest;
}

/* Replace the pages of mask in a bitmap word, and count the difference. */
static void replace(uint64_t *word, uint64_t mask, uint64_t pages,
		    uint64_t *count)
{
	uint64_t after = (*word & ~mask) | pages;

	*count += (uint64_t)__builtin_popcountll(after) -
		  (uint64_t)__builtin_popcountll(*word);
	*word = after;
}

void reader_doubt(struct reader *reader, uint64_t block, uint64_t pages,
		  uint64_t suspect, uint64_t stale)
{
	struct pmig_receiver *receiver = reader->receiver;

	replace(&receiver->suspect[block], pages, suspect, &reader->suspects);
	replace(&receiver->stale[block], pages, stale, &reader->stales);
}

int arrival_damaged(const struct arrival *arrival, uint64_t pages,
		    const char *why, struct pmig_error *err)
{
	return pmig_fail(err, -EBADMSG,
			 "the page at 0x%" PRIx64
			 " does not match its hash: it was damaged on "
			 "the way%s",
			 arrival_gpa(arrival, pages), why);
}

/*
 * Every page of the frame is in a new version: forget what was doubtful
 * about the ones before, and note what is wrong with these.
 */
static int judge(struct reader *reader, const struct arrival *arrival,
		 uint64_t wrong, struct pmig_error *err)
{
	uint64_t mask = arrival->pages->mask;
	uint64_t stale = 0, damaged = 0;

	if (wrong) {
		stale = wrong & arrival_by_encoding(arrival, ARRIVAL_DEPENDENT);
		damaged = wrong & arrival_by_encoding(arrival, ARRIVAL_GROUPS);
		wrong &= ~(stale | damaged);
	}
	if (damaged)
		return arrival_damaged(arrival, damaged, "", err);
	if (wrong && reader->part.kind == PMIG_EPOCH_SEALED)
		return arrival_damaged(
			arrival, wrong,
			", or written while the machine was paused", err);
	reader_doubt(reader, arrival->number, mask, wrong, stale);
	return 0;
}

/* Whoever else claims the block in this epoch, one of the two finds out. */
static int check_first_time(struct reader *reader,
			    const struct arrival *arrival,
			    struct pmig_error *err)
{
	struct pmig_receiver *receiver = reader->receiver;
	uint64_t before = atomic_exchange(&receiver->seen[arrival->number],
					  seen_mark(reader));

	if (before / PMIG_MAX_CHANNELS == reader->part.epoch)
		return pmig_fail(err, -EBADMSG,
				 "the block at 0x%" PRIx64
				 " came twice in epoch %" PRIu64,
				 arrival_gpa(arrival, 1), reader->part.epoch);
	receiver->described[arrival->number] = arrival->pages->zero_mask;
	return 0;
}

/* A page that took effect on this channel in this epoch. */
static const uint8_t *original_of_epoch(const struct arrival *arrival,
					const struct wire_copy *copy)
{
	const struct reader *reader = arrival->owner;
	const struct pmig_receiver *receiver = reader->receiver;
	struct pmig_block block;
	unsigned int page;
	uint64_t number;

	if (!arrival_locate_copy(receiver->memory, copy, &number, &page) ||
	    !pmig_memory_locate(receiver->memory, number, &block) ||
	    receiver->seen[number] != seen_mark(reader) ||
	    !(receiver->described[number] >> page & 1))
		return NULL;
	return block.hva + (size_t)page * PMIG_PAGE_BYTES;
}

int arrival_begin(struct reader *reader, struct arrival *arrival,
		  struct pmig_error *err)
{
	const struct pmig_memory *memory = reader->receiver->memory;
	int rc = frame_parse_pages(reader->frame, memory, &arrival->pages,
				   &arrival->entries, &arrival->block, err);

	if (rc)
		return rc;
	if (arrival->pages->epoch != reader->part.epoch)
		return pmig_fail(err, -EBADMSG,
				 "pages of epoch %" PRIu64
				 " came in epoch %" PRIu64,
				 arrival->pages->epoch, reader->part.epoch);
	arrival->number = arrival->block.map->first_block +
			  arrival->block.offset_bytes / PMIG_BLOCK_BYTES;
	arrival->at = arrival->block.hva;
	arrival->described = &reader->receiver->described[arrival->number];
	arrival->original = original_of_epoch;
	arrival->owner = reader;
	return 0;
}

void arrival_count(struct reader *reader, const struct arrival *arrival)
{
	reader->part.digest += arrival_digest(arrival->pages, arrival->entries);
	reader->frames++;
	reader->part.pages +=
		(uint64_t)__builtin_popcountll(arrival->pages->mask);
	reader->part.zero_pages +=
		(uint64_t)__builtin_popcountll(arrival->pages->zero_mask);
}

int reader_pages(struct reader *reader, struct pmig_error *err)
{
	struct arrival arrival;
	int rc = arrival_begin(reader, &arrival, err);

	if (!rc)
		rc = check_first_time(reader, &arrival, err);
	if (rc)
		return rc;
	if (prefault_note(&reader->receiver->prefault, arrival.number))
		allocate_block(reader, &arrival);
	clear_pages(reader, &arrival);
	rc = arrival_read(reader, &arrival, err);
	if (!rc)
		rc = arrival_decode(&reader->decoder, &arrival, err);
	if (!rc)
		rc = judge(reader, &arrival, arrival_mismatches(&arrival), err);
	arrival_count(reader, &arrival);
	return rc;
}
