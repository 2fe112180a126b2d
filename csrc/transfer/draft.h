/* SPDX-License-Identifier: Apache-2.0 */
/*
 * draft.h - a PAGES frame under construction
 *
 * Entries are added for the pages of one block, lowest first. A draft counts
 * what it sends in the worker's round.
 */
#ifndef PMIG_TRANSFER_DRAFT_H
#define PMIG_TRANSFER_DRAFT_H

#include "transfer/sender.h"

/**
 * struct draft - see above
 * @worker:	who sends it
 * @block:	where the pages lie
 * @number:	of the block
 * @region:	number of its region
 * @frame:	slot of the outbox
 * @pages:	its head
 * @entries:	behind it
 * @guest_memory: contents are pages where they lie, none was encoded
 * @bodies:	runs of contents, in the order of the entries
 * @n_bodies:	in use
 * @body_bytes: their sum
 */
struct draft {
	struct send_worker *worker;
	struct pmig_block block;
	uint64_t number;
	uint32_t region;
	struct frame *frame;
	struct wire_pages *pages;
	struct wire_entry *entries;
	bool guest_memory;
	struct iovec bodies[PMIG_BLOCK_PAGES];
	int n_bodies;
	uint32_t body_bytes;
};

/* Begin with the pages of mask in the block of that number. */
void draft_begin(struct draft *draft, struct send_worker *worker,
		 const struct pmig_block *block, uint64_t number,
		 uint64_t mask);

static inline uint8_t *draft_page(const struct draft *draft, unsigned int page)
{
	return draft->block.hva + (size_t)page * PMIG_PAGE_BYTES;
}

/* The page is zero. */
void draft_zero(struct draft *draft, unsigned int page);

/*
 * The page has this hash, and stored_bytes at body stand for it. body must
 * stay as it is until the outbox is written; raw pages of guest memory are
 * the exception that docs/stream-format.md, "Suspect pages", describes.
 */
void draft_add(struct draft *draft, unsigned int page, uint64_t hash,
	       enum pmig_encoding encoding, uint8_t *body,
	       uint32_t stored_bytes);

/* The n entries added last are a group that is stored in these bytes. */
void draft_group(struct draft *draft, uint32_t n, uint8_t *body,
		 uint32_t stored_bytes);

/* Queue the frame. */
int draft_push(struct draft *draft, struct pmig_error *err);

#endif
