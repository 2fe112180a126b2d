/* SPDX-License-Identifier: Apache-2.0 */
/* apply.c - a PAGES frame into guest memory; theory in receiver.h */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "page/hash.h"
#include "transfer/receiver.h"

/* Everything about the frame at hand. */
struct arrival {
	const struct wire_pages *pages;
	const struct wire_entry *entries;
	struct pmig_block block;
	uint64_t number; /* of the block */
};

static uint8_t *page_at(const struct arrival *arrival, unsigned int page)
{
	return arrival->block.hva + (size_t)page * PMIG_PAGE_BYTES;
}

/* Memory starts as zeros: only a page that was written needs clearing. */
static void clear_pages(struct reader *reader, const struct arrival *arrival)
{
	uint64_t *written = &reader->receiver->written[arrival->number];
	uint64_t clear = arrival->pages->zero_mask & *written;

	for (; clear; clear &= clear - 1)
		memset(page_at(arrival, (unsigned int)__builtin_ctzll(clear)),
		       0, PMIG_PAGE_BYTES);
	*written &= ~arrival->pages->zero_mask;
	*written |= arrival->pages->mask & ~arrival->pages->zero_mask;
}

/* Let the kernel put the bodies where they belong. */
static int read_bodies(struct reader *reader, const struct arrival *arrival,
		       struct pmig_error *err)
{
	uint64_t left = arrival->pages->mask & ~arrival->pages->zero_mask;
	struct iovec iov[PMIG_BLOCK_PAGES];
	int n = 0;

	for (; left; left &= left - 1) {
		uint8_t *page =
			page_at(arrival, (unsigned int)__builtin_ctzll(left));

		if (n &&
		    (uint8_t *)iov[n - 1].iov_base + iov[n - 1].iov_len == page)
			iov[n - 1].iov_len += PMIG_PAGE_BYTES;
		else
			iov[n++] = (struct iovec){page, PMIG_PAGE_BYTES};
	}
	return n ? reader_read(reader, iov, n, err) : 0;
}

static uint64_t region_of(const struct reader *reader,
			  const struct arrival *arrival)
{
	return (uint64_t)(arrival->block.map - reader->receiver->memory->maps);
}

/* Hash what has arrived: the pages that do not match their hash. */
static uint64_t mismatches(const struct arrival *arrival)
{
	uint64_t left = arrival->pages->mask & ~arrival->pages->zero_mask;
	const struct wire_entry *entry = arrival->entries;
	uint64_t wrong = 0;

	for (; left; left &= left - 1, entry++) {
		unsigned int page = (unsigned int)__builtin_ctzll(left);

		if (pmig_hash(page_at(arrival, page), PMIG_PAGE_BYTES) !=
		    entry->hash)
			wrong |= 1ull << page;
	}
	return wrong;
}

static void add_digest(struct reader *reader, const struct arrival *arrival)
{
	uint64_t first = arrival->block.offset_bytes / PMIG_PAGE_BYTES;
	const struct wire_entry *entry = arrival->entries;
	uint64_t region = region_of(reader, arrival);

	for (uint64_t left = arrival->pages->mask; left; left &= left - 1) {
		unsigned int page = (unsigned int)__builtin_ctzll(left);
		bool zero = arrival->pages->zero_mask >> page & 1;

		reader->part.digest += pmig_hash_placed(
			region, first + page, zero ? 0 : entry++->hash);
	}
}

static uint64_t gpa_of(const struct arrival *arrival, uint64_t pages)
{
	return arrival->block.map->region.gpa + arrival->block.offset_bytes +
	       (uint64_t)__builtin_ctzll(pages) * PMIG_PAGE_BYTES;
}

/* Forget suspicions that this frame settles, note those it raises. */
static int judge(struct reader *reader, const struct arrival *arrival,
		 uint64_t wrong, struct pmig_error *err)
{
	uint64_t *suspect = &reader->receiver->suspect[arrival->number];
	uint64_t settled = *suspect & arrival->pages->mask & ~wrong;
	uint64_t raised = wrong & ~*suspect;

	if (wrong && reader->part.kind == PMIG_EPOCH_SEALED)
		return pmig_fail(err, -EBADMSG,
				 "the page at 0x%" PRIx64
				 " does not match its hash: it was damaged on "
				 "the way, or written while the machine was "
				 "paused",
				 gpa_of(arrival, wrong));
	*suspect = (*suspect & ~settled) | raised;
	reader->suspects -= (uint64_t)__builtin_popcountll(settled);
	reader->suspects += (uint64_t)__builtin_popcountll(raised);
	return 0;
}

static int check_first_time(struct reader *reader,
			    const struct arrival *arrival,
			    struct pmig_error *err)
{
	uint64_t *seen = &reader->receiver->seen[arrival->number];

	if (*seen == reader->part.epoch)
		return pmig_fail(err, -EBADMSG,
				 "the block at 0x%" PRIx64
				 " came twice in epoch %" PRIu64,
				 gpa_of(arrival, 1), reader->part.epoch);
	*seen = reader->part.epoch;
	return 0;
}

int reader_pages(struct reader *reader, struct pmig_error *err)
{
	const struct pmig_memory *memory = reader->receiver->memory;
	struct arrival arrival;
	int rc = frame_parse_pages(reader->frame, memory, &arrival.pages,
				   &arrival.entries, &arrival.block, err);

	if (rc)
		return rc;
	if (arrival.pages->epoch != reader->part.epoch)
		return pmig_fail(err, -EBADMSG,
				 "pages of epoch %" PRIu64
				 " came in epoch %" PRIu64,
				 arrival.pages->epoch, reader->part.epoch);
	arrival.number = arrival.block.map->first_block +
			 arrival.block.offset_bytes / PMIG_BLOCK_BYTES;
	rc = check_first_time(reader, &arrival, err);
	if (rc)
		return rc;
	prefault_note(&reader->receiver->prefault, arrival.number);
	clear_pages(reader, &arrival);
	rc = read_bodies(reader, &arrival, err);
	if (!rc)
		rc = judge(reader, &arrival, mismatches(&arrival), err);
	add_digest(reader, &arrival);
	reader->frames++;
	reader->part.pages +=
		(uint64_t)__builtin_popcountll(arrival.pages->mask);
	reader->part.zero_pages +=
		(uint64_t)__builtin_popcountll(arrival.pages->zero_mask);
	return rc;
}
