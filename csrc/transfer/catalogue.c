/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/catalogue.h"

#include <stdlib.h>
#include <string.h>

#include "page/hash.h"

enum {
	FIRST_ENTRIES = 1 << 10,
};

void catalogue_fini(struct catalogue *catalogue)
{
	free(catalogue->entries);
}

/* For one more, and for the size at the end, which is smaller. */
static bool make_room(struct catalogue *catalogue)
{
	uint64_t room = catalogue->room ? 2 * catalogue->room : FIRST_ENTRIES;
	void *grown;

	if (catalogue->n + 1 < catalogue->room)
		return true;
	if (catalogue->n >= WIRE_MAX_INDEX_ENTRIES)
		return false;
	grown = realloc(catalogue->entries, room * sizeof(*catalogue->entries));
	if (!grown)
		return false;
	catalogue->entries = grown;
	catalogue->room = room;
	return true;
}

static void add_pages(struct catalogue *catalogue, uint64_t at_bytes,
		      const struct frame *frame)
{
	const struct wire_pages *pages = (const void *)frame->head;

	if (catalogue->lost || !make_room(catalogue) ||
	    frame->header.sequence > UINT32_MAX) {
		catalogue->lost = true;
		return;
	}
	catalogue->entries[catalogue->n++] = (struct wire_index_entry){
		.at_bytes = at_bytes,
		.offset_bytes = pages->offset_bytes,
		.mask = pages->mask,
		.zero_mask = pages->zero_mask,
		.region = pages->region,
		.sequence = (uint32_t)frame->header.sequence,
	};
}

void catalogue_add(struct catalogue *catalogue, uint64_t at_bytes,
		   const struct frame *frame)
{
	if (frame->header.type == PMIG_FRAME_PAGES)
		add_pages(catalogue, at_bytes, frame);
	if (frame->header.type == PMIG_FRAME_STATE)
		catalogue->state_at_bytes = at_bytes;
}

bool catalogue_finish(struct catalogue *catalogue, struct wire_index *head,
		      const void **body, uint32_t *body_bytes)
{
	uint64_t entries_bytes = catalogue->n * sizeof(*catalogue->entries);
	uint64_t frame_size;

	if (catalogue->lost || !make_room(catalogue))
		return false;
	frame_size = WIRE_HEADER_BYTES + sizeof(*head) + entries_bytes +
		     sizeof(frame_size);
	memcpy((uint8_t *)catalogue->entries + entries_bytes, &frame_size,
	       sizeof(frame_size));
	*body = catalogue->entries;
	*body_bytes = (uint32_t)(entries_bytes + sizeof(frame_size));
	*head = (struct wire_index){
		.body_hash = pmig_hash(*body, *body_bytes),
		.entry_count = catalogue->n,
		.state_at_bytes = catalogue->state_at_bytes,
	};
	return true;
}
