/* SPDX-License-Identifier: Apache-2.0 */
/* index_load.c - the index as the file itself has it; see index.h */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "page/hash.h"
#include "restore/index.h"
#include "restore/scan.h"

enum {
	END_BYTES = WIRE_HEADER_BYTES + sizeof(struct wire_end),
	HEAD_BYTES = WIRE_HEADER_BYTES + sizeof(struct wire_index),
};

/**
 * struct index_tail - the end of a file with an index
 * @size_bytes:	of the INDEX frame; the last bytes of its body
 * @header:	of the END frame that follows it
 */
struct index_tail {
	uint64_t size_bytes;
	struct wire_header header;
};
static_assert(sizeof(struct index_tail) == 8 + WIRE_HEADER_BYTES, "tail");

/* The frame there, if it is of that type. */
static bool scan_at(struct frame_scan *scan, uint64_t at_bytes,
		    uint64_t sequence, enum pmig_frame_type type)
{
	scan->at_bytes = at_bytes;
	scan->sequence = sequence;
	return scan_next(scan, NULL) == 0 && scan->frame->header.type == type;
}

/* Go to the INDEX frame; false where there is none. */
static bool find_index(struct frame_scan *scan)
{
	uint64_t end_bytes = scan->size_bytes - END_BYTES;
	struct index_tail tail;
	uint64_t sequence;

	if (scan->size_bytes < END_BYTES + HEAD_BYTES + sizeof(uint64_t) ||
	    pread(scan->fd, &tail, sizeof(tail),
		  (off_t)(end_bytes - sizeof(uint64_t))) != sizeof(tail))
		return false;
	sequence = tail.header.sequence;
	if (tail.size_bytes < HEAD_BYTES || tail.size_bytes > end_bytes ||
	    !sequence || !scan_at(scan, end_bytes, sequence, PMIG_FRAME_END) ||
	    scan->at_bytes != scan->size_bytes)
		return false;
	return scan_at(scan, end_bytes - tail.size_bytes, sequence - 1,
		       PMIG_FRAME_INDEX) &&
	       scan->at_bytes == end_bytes;
}

/* The body of that frame, malloc'd; NULL where it is not as it should be. */
static struct wire_index_entry *read_entries(struct frame_scan *scan,
					     struct wire_index *head)
{
	const struct wire_header *header = &scan->frame->header;
	void *body;

	if (header->head_bytes != sizeof(*head))
		return NULL;
	memcpy(head, scan->frame->head, sizeof(*head));
	if (head->reserved || head->entry_count > WIRE_MAX_INDEX_ENTRIES ||
	    header->body_bytes !=
		    head->entry_count * sizeof(struct wire_index_entry) +
			    sizeof(uint64_t))
		return NULL;
	body = malloc(header->body_bytes);
	if (body && (scan_body(scan, body, NULL) ||
		     pmig_hash(body, header->body_bytes) != head->body_hash)) {
		free(body);
		body = NULL;
	}
	return body;
}

/* The block of an entry; false where the entry is impossible. */
static bool locate(const struct pmig_memory *memory,
		   const struct wire_index_entry *entry, uint64_t *number)
{
	const struct pmig_region_map *map;
	struct pmig_block block;

	if (entry->region >= memory->n_maps)
		return false;
	map = &memory->maps[entry->region];
	if (entry->offset_bytes % PMIG_BLOCK_BYTES ||
	    entry->offset_bytes >= map->region.size_bytes)
		return false;
	*number = map->first_block + entry->offset_bytes / PMIG_BLOCK_BYTES;
	return pmig_memory_locate(memory, *number, &block) && entry->mask &&
	       !(entry->mask & ~block.valid) &&
	       !(entry->zero_mask & ~entry->mask);
}

static bool add_entries(struct stream_index *index, struct page_store *store,
			const struct wire_index_entry *entries, uint64_t n)
{
	uint64_t at_bytes = 0;

	for (uint64_t i = 0; i < n; i++) {
		const struct wire_index_entry *entry = &entries[i];
		uint64_t number, *stored;

		if (entry->at_bytes <= at_bytes ||
		    entry->at_bytes >= store->size_bytes ||
		    !locate(store->memory, entry, &number) ||
		    index_add(index, number, entry->at_bytes, entry->sequence,
			      NULL))
			return false;
		at_bytes = entry->at_bytes;
		stored = &store->stored[number];
		*stored = (*stored & ~entry->zero_mask) |
			  (entry->mask & ~entry->zero_mask);
	}
	return true;
}

static bool read_state(struct frame_scan *scan, struct page_store *store,
		       uint64_t at_bytes)
{
	struct wire_header header;

	if (!at_bytes)
		return true;
	if (at_bytes >= store->size_bytes ||
	    pread(scan->fd, &header, sizeof(header), (off_t)at_bytes) !=
		    sizeof(header) ||
	    !scan_at(scan, at_bytes, header.sequence, PMIG_FRAME_STATE) ||
	    scan_blob(scan, &store->state, NULL)) {
		store->state = NULL;
		return false;
	}
	store->state_bytes = scan->frame->header.body_bytes;
	return true;
}

/* As if nothing had been loaded. */
static void clear(struct stream_index *index, struct page_store *store)
{
	index_clear(index, store->memory->n_blocks);
	memset(store->stored, 0,
	       store->memory->n_blocks * sizeof(*store->stored));
	free(store->state);
	store->state = NULL;
	store->state_bytes = 0;
}

static int load(struct stream_index *index, struct page_store *store,
		struct frame_scan *scan, struct pmig_error *err)
{
	struct wire_index_entry *entries;
	struct wire_index head;
	bool loaded;
	int rc;

	if (!find_index(scan))
		return 0;
	entries = read_entries(scan, &head);
	if (!entries)
		return 0;
	loaded = add_entries(index, store, entries, head.entry_count) &&
		 read_state(scan, store, head.state_at_bytes) &&
		 scan_at(scan, 0, 0, PMIG_FRAME_STREAM);
	free(entries);
	if (!loaded) {
		clear(index, store);
		return 0;
	}
	rc = index_check_stream(store, scan->frame, err);
	if (!rc)
		rc = index_check_kind(head.kind, err);
	return rc ? rc : 1;
}

int index_load(struct stream_index *index, struct page_store *store,
	       struct pmig_error *err)
{
	struct frame_scan scan;
	int rc = scan_init(&scan, store->fd, store->size_bytes, err);

	if (!rc)
		rc = load(index, store, &scan, err);
	scan_fini(&scan);
	return rc;
}
