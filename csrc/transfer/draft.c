/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/draft.h"

#include "page/hash.h"

void draft_begin(struct draft *draft, struct send_worker *worker,
		 const struct pmig_block *block, uint64_t number, uint64_t mask)
{
	draft->worker = worker;
	draft->block = *block;
	draft->number = number;
	draft->region = (uint32_t)(block->map - worker->sender->memory->maps);
	draft->frame = outbox_slot(&worker->box);
	draft->pages = (void *)draft->frame->head;
	draft->entries = (void *)(draft->frame->head + sizeof(*draft->pages));
	draft->guest_memory = false;
	draft->n_bodies = 0;
	draft->body_bytes = 0;
	*draft->pages = (struct wire_pages){
		.epoch = worker->round.epoch,
		.offset_bytes = block->offset_bytes,
		.region = draft->region,
		.mask = mask,
	};
	worker->round.sent_pages += (uint64_t)__builtin_popcountll(mask);
}

static void add_digest(struct draft *draft, unsigned int page, uint64_t hash)
{
	uint64_t number = draft->block.offset_bytes / PMIG_PAGE_BYTES + page;

	draft->worker->round.digest +=
		pmig_hash_placed(draft->region, number, hash);
}

void draft_zero(struct draft *draft, unsigned int page)
{
	draft->pages->zero_mask |= 1ull << page;
	draft->worker->round.zero_pages++;
	add_digest(draft, page, 0);
}

static bool extends(const struct iovec *run, const uint8_t *body)
{
	return (const uint8_t *)run->iov_base + run->iov_len == body;
}

/* Append contents, to the last run if they lie behind it. */
static void add_body(struct draft *draft, uint8_t *body, uint32_t bytes)
{
	struct iovec *last = draft->bodies + draft->n_bodies;

	if (draft->n_bodies && extends(--last, body))
		last->iov_len += bytes;
	else
		draft->bodies[draft->n_bodies++] = (struct iovec){body, bytes};
	draft->body_bytes += bytes;
}

static void count(struct draft *draft, enum pmig_encoding encoding,
		  uint32_t n_pages, uint32_t stored_bytes)
{
	struct pmig_round *round = &draft->worker->round;

	round->pages_by_encoding[encoding] += n_pages;
	round->bytes_by_encoding[encoding] += stored_bytes;
}

void draft_add(struct draft *draft, unsigned int page, uint64_t hash,
	       enum pmig_encoding encoding, uint8_t *body,
	       uint32_t stored_bytes)
{
	draft->entries[draft->pages->entry_count++] = (struct wire_entry){
		.hash = hash,
		.stored_bytes = stored_bytes,
		.encoding = encoding,
	};
	if (stored_bytes)
		add_body(draft, body, stored_bytes);
	add_digest(draft, page, hash);
	count(draft, encoding, 1, stored_bytes);
}

void draft_group(struct draft *draft, uint32_t n, uint8_t *body,
		 uint32_t stored_bytes)
{
	struct wire_entry *first =
		&draft->entries[draft->pages->entry_count - n];

	first->span = (uint8_t)n;
	first->stored_bytes = stored_bytes;
	add_body(draft, body, stored_bytes);
	count(draft, first->encoding, 0, stored_bytes);
}

int draft_push(struct draft *draft, struct pmig_error *err)
{
	struct send_worker *worker = draft->worker;

	frame_begin(draft->frame, PMIG_FRAME_PAGES,
		    sizeof(*draft->pages) +
			    draft->pages->entry_count * sizeof(*draft->entries),
		    draft->body_bytes, worker->box.sequence);
	worker->frames++;
	return outbox_push_pages(&worker->box, draft->bodies, draft->n_bodies,
				 draft->guest_memory, err);
}
