/* SPDX-License-Identifier: Apache-2.0 */
/* send_block.c - one block on its way; theory in sender.h and encode.h */
#include "base/bitmap.h"
#include "page/fetch.h"
#include "transfer/draft.h"

/* Pages of a block may then be sent by several workers, and never again. */
static bool is_late(const struct send_worker *worker)
{
	return worker->round.kind == PMIG_EPOCH_LATE;
}

static void add_plain(struct draft *draft, unsigned int page, bool hole)
{
	uint8_t *hva = draft_page(draft, page);
	uint64_t hash;

	if (hole || pmig_page_scan(hva, &hash))
		draft_zero(draft, page);
	else
		draft_add(draft, page, hash, PMIG_ENCODING_RAW, hva,
			  PMIG_PAGE_BYTES);
}

/* The first of these pages is read next. */
static void fetch_first(const struct draft *draft, uint64_t pages)
{
	if (pages)
		pmig_page_fetch(draft_page(
			draft, (unsigned int)__builtin_ctzll(pages)));
}

/* From where the pages lie; docs/stream-format.md, "Suspect pages". */
static void send_plain(struct draft *draft, uint64_t present)
{
	struct encoder *encoder = &draft->worker->encoder;

	draft->guest_memory = true;
	for (uint64_t left = draft->pages->mask; left;) {
		unsigned int page = (unsigned int)__builtin_ctzll(left);

		left &= left - 1;
		fetch_first(draft, left & present);
		add_plain(draft, page, !(present >> page & 1));
	}
	if (encoder->prints && !is_late(draft->worker))
		encoder->prints->valid[draft->number] &= ~draft->pages->mask;
	encoder->used_pages[CHOICE_RAW] += draft->pages->entry_count;
}

static void send_encoded(struct draft *draft, struct encode_plan plan,
			 uint64_t present, uint8_t *room)
{
	struct send_worker *worker = draft->worker;

	outbox_keep(&worker->box,
		    encode_block(&worker->encoder, draft, plan, present, room));
}

int send_block(struct send_worker *worker, uint64_t number, uint64_t mask,
	       uint64_t present, struct pmig_error *err)
{
	struct pmig_sender *sender = worker->sender;
	struct encode_plan plan =
		is_late(worker) ? encode_plan_late(&worker->encoder, number,
						   mask, is_urgent(worker))
				: encode_plan(&worker->encoder,
					      worker->round.epoch == 1);
	bool encoded = plan.track || plan.compress;
	uint8_t *room = NULL;
	struct pmig_block block;
	struct draft draft;
	int rc = 0;

	if (!pmig_memory_locate(sender->memory, number, &block))
		return 0;
	if (encoded)
		rc = outbox_room(&worker->box, ENCODE_ROOM_BYTES, &room, err);
	if (!rc)
		rc = outbox_ready(&worker->box, err);
	if (rc)
		return rc;
	draft_begin(&draft, worker, &block, number, mask);
	if (encoded)
		send_encoded(&draft, plan, present, room);
	else
		send_plain(&draft, present);
	if (plan.trial)
		encode_trial(&worker->encoder, &draft);
	pmig_bits_clear(&sender->independent[number], mask);
	return draft_push(&draft, err);
}
