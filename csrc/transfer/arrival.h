/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arrival.h - a PAGES frame on its way into guest memory
 *
 * Theory of operation
 *
 * The bodies of a frame lie on the wire in the order of its entries. Raw
 * pages are read straight to where they belong, everything else into the
 * reader's body buffer, all in one vectored read. Then the entries are gone
 * through once more and what is not raw takes effect: a delta is laid over
 * the page, a group is decompressed, a copy is made. Whatever an entry says,
 * every page is hashed where it lies afterwards, and it is the hash that
 * decides: a wrong one makes a raw page suspect, an unchanged, delta or copy
 * page stale, and is damage in a compressed one (docs/stream-format.md).
 */
#ifndef PMIG_TRANSFER_ARRIVAL_H
#define PMIG_TRANSFER_ARRIVAL_H

#include "memory/memory.h"
#include "stream/wire.h"
#include "transfer/decode.h"

struct reader;

/**
 * struct arrival - a frame whose head was checked
 * @pages:	its head
 * @entries:	behind it
 * @block:	where it goes
 * @number:	of the block
 * @at:		where its pages are put together: guest memory, or a landing
 * @described:	pages of the block that took effect in this epoch
 * @original:	finds the page that a copy names, NULL: it may not name that;
 *		not needed where there is no copy
 * @owner:	for @original
 */
struct arrival {
	const struct wire_pages *pages;
	const struct wire_entry *entries;
	struct pmig_block block;
	uint64_t number;
	uint8_t *at;
	uint64_t *described;
	const uint8_t *(*original)(const struct arrival *arrival,
				   const struct wire_copy *copy);
	const void *owner;
};

/* Pages that have an entry. */
static inline uint64_t arrival_stored(const struct arrival *arrival)
{
	return arrival->pages->mask & ~arrival->pages->zero_mask;
}

static inline uint8_t *arrival_page(const struct arrival *arrival,
				    unsigned int page)
{
	return arrival->at + (size_t)page * PMIG_PAGE_BYTES;
}

/* Guest physical address of the lowest of pages (not 0), for messages. */
static inline uint64_t arrival_gpa(const struct arrival *arrival,
				   uint64_t pages)
{
	return arrival->block.map->region.gpa + arrival->block.offset_bytes +
	       (uint64_t)__builtin_ctzll(pages) * PMIG_PAGE_BYTES;
}

/* The pages with an entry of one of the encodings (a mask). */
uint64_t arrival_by_encoding(const struct arrival *arrival, uint32_t encodings);

/* Stored pages that do not have the hash that they should. */
uint64_t arrival_mismatches(const struct arrival *arrival);

/* What the pages add to the digest of their epoch. */
uint64_t arrival_digest(const struct wire_pages *pages,
			const struct wire_entry *entries);

/* Say that the lowest of these pages is damaged. */
int arrival_damaged(const struct arrival *arrival, uint64_t pages,
		    const char *why, struct pmig_error *err);

/* Encodings whose result depends on what is here already. */
enum {
	ARRIVAL_DEPENDENT = 1 << PMIG_ENCODING_UNCHANGED |
			    1 << PMIG_ENCODING_DELTA | 1 << PMIG_ENCODING_COPY,
};

enum {
	ARRIVAL_GROUPS = 1 << PMIG_ENCODING_LZ4 | 1 << PMIG_ENCODING_ZSTD,
};

/*
 * decode.c: let everything that is not raw take effect. Its contents are in
 * the decoder's body, in the order of the entries.
 */
int arrival_decode(struct page_decoder *decoder, const struct arrival *arrival,
		   struct pmig_error *err);

/* Where a copy says that its page is; false where no page is. */
bool arrival_locate_copy(const struct pmig_memory *memory,
			 const struct wire_copy *copy, uint64_t *number,
			 unsigned int *page);

/* ---- of a reader ------------------------------------------------------- */

/* apply.c: the head of a frame of the running epoch. */
int arrival_begin(struct reader *reader, struct arrival *arrival,
		  struct pmig_error *err);

/* Read the bodies: raw pages to where they belong, the others aside. */
int arrival_read(struct reader *reader, const struct arrival *arrival,
		 struct pmig_error *err);

/* Count the pages, and add them to the digest. */
void arrival_count(struct reader *reader, const struct arrival *arrival);

#endif
