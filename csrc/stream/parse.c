/* SPDX-License-Identifier: Apache-2.0 */
/* parse.c - typed views of frame heads; see frame.h */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "stream/frame.h"

static int wrong_size(const struct frame *frame, size_t expected,
		      struct pmig_error *err)
{
	char name[16];

	return pmig_fail(
		err, -EBADMSG,
		"%s frame with a head of %" PRIu32
		" bytes and a body of %" PRIu32 ", its head is %zu bytes long",
		frame_name(frame->header.type, name), frame->header.head_bytes,
		frame->header.body_bytes, expected);
}

static int bad_field(const struct frame *frame, const char *what,
		     struct pmig_error *err)
{
	char name[16];

	return pmig_fail(err, -EBADMSG, "%s frame: %s",
			 frame_name(frame->header.type, name), what);
}

/* The head has exactly this size and there is no body. */
static int check_bare(const struct frame *frame, size_t head_bytes,
		      struct pmig_error *err)
{
	if (frame->header.head_bytes != head_bytes || frame->header.body_bytes)
		return wrong_size(frame, head_bytes, err);
	return 0;
}

static int check_kind(const struct frame *frame, uint64_t epoch, uint32_t kind,
		      uint32_t reserved, struct pmig_error *err)
{
	if (epoch == 0)
		return bad_field(frame, "epoch 0 does not exist", err);
	if (kind != PMIG_EPOCH_FUZZY && kind != PMIG_EPOCH_SEALED &&
	    kind != PMIG_EPOCH_LATE)
		return bad_field(frame, "unknown kind of epoch", err);
	if (reserved)
		return bad_field(frame, "a reserved field is set", err);
	return 0;
}

int frame_parse_stream(const struct frame *frame,
		       const struct wire_stream **stream,
		       const struct wire_region **regions,
		       struct pmig_error *err)
{
	const struct wire_stream *s = (const void *)frame->head;
	uint32_t head_bytes = frame->header.head_bytes;

	if (head_bytes < sizeof(*s))
		return wrong_size(frame, sizeof(*s), err);
	if (s->version_major != PMIG_STREAM_VERSION_MAJOR)
		return pmig_fail(err, -EBADMSG,
				 "stream version %u.%u, this library reads "
				 "version %d",
				 s->version_major, s->version_minor,
				 PMIG_STREAM_VERSION_MAJOR);
	if (s->region_count == 0 || s->region_count > PMIG_MAX_REGIONS)
		return bad_field(frame, "region count out of range", err);
	if (check_bare(frame, sizeof(*s) + s->region_count * sizeof(**regions),
		       err))
		return -EBADMSG;
	if (s->page_bytes != PMIG_PAGE_BYTES ||
	    s->block_pages != PMIG_BLOCK_PAGES)
		return bad_field(frame, "unknown page or block size", err);
	if (s->channel_count == 0 || s->channel_count > PMIG_MAX_CHANNELS ||
	    s->channel_index >= s->channel_count)
		return bad_field(frame, "channel number out of range", err);
	if (s->reserved[0] || s->reserved[1] || s->reserved[2])
		return bad_field(frame, "a reserved field is set", err);
	*stream = s;
	*regions = (const void *)(frame->head + sizeof(*s));
	return 0;
}

int frame_parse_blob(const struct frame *frame, const struct wire_blob **blob,
		     struct pmig_error *err)
{
	if (frame->header.head_bytes != sizeof(**blob))
		return wrong_size(frame, sizeof(**blob), err);
	*blob = (const void *)frame->head;
	return 0;
}

int frame_parse_epoch(const struct frame *frame,
		      const struct wire_epoch **epoch, struct pmig_error *err)
{
	const struct wire_epoch *e = (const void *)frame->head;
	int rc = check_bare(frame, sizeof(*e), err);

	if (rc)
		return rc;
	*epoch = e;
	return check_kind(frame, e->epoch, e->kind, e->reserved, err);
}

int frame_parse_epoch_end(const struct frame *frame,
			  const struct wire_epoch_end **end,
			  struct pmig_error *err)
{
	const struct wire_epoch_end *e = (const void *)frame->head;
	int rc = check_bare(frame, sizeof(*e), err);

	if (rc)
		return rc;
	*end = e;
	return check_kind(frame, e->epoch, e->kind, e->reserved, err);
}

int frame_parse_end(const struct frame *frame, const struct wire_end **end,
		    struct pmig_error *err)
{
	int rc = check_bare(frame, sizeof(**end), err);

	if (rc)
		return rc;
	*end = (const void *)frame->head;
	return 0;
}

int frame_parse_ranges(const struct frame *frame,
		       const struct wire_ranges **ranges,
		       const struct wire_range **list, struct pmig_error *err)
{
	const struct wire_ranges *r = (const void *)frame->head;

	if (frame->header.head_bytes < sizeof(*r))
		return wrong_size(frame, sizeof(*r), err);
	if (r->range_count > WIRE_MAX_RANGES || r->reserved)
		return bad_field(frame, "range count out of range", err);
	if (check_bare(frame, sizeof(*r) + r->range_count * sizeof(**list),
		       err))
		return -EBADMSG;
	*ranges = r;
	*list = (const void *)(frame->head + sizeof(*r));
	return 0;
}

/* How many pages of the running group are still to come, and its encoding. */
struct group {
	uint32_t left;
	uint8_t encoding;
};

static bool is_delta_size(uint32_t bytes)
{
	return bytes > 8 && bytes <= 8 + PMIG_PAGE_BYTES &&
	       (bytes - 8) % WIRE_LINE_BYTES == 0;
}

/* Why the size or span of an entry is impossible; NULL when it is not. */
static const char *misfit_of(const struct wire_entry *entry, uint32_t n_left)
{
	switch (entry->encoding) {
	case PMIG_ENCODING_RAW:
		return entry->stored_bytes == PMIG_PAGE_BYTES
			       ? NULL
			       : "a raw page is not 4096 bytes";
	case PMIG_ENCODING_UNCHANGED:
		return entry->stored_bytes ? "an unchanged page has contents"
					   : NULL;
	case PMIG_ENCODING_DELTA:
		return is_delta_size(entry->stored_bytes)
			       ? NULL
			       : "impossible size of a delta";
	case PMIG_ENCODING_COPY:
		return entry->stored_bytes == sizeof(struct wire_copy)
			       ? NULL
			       : "a copy is not 16 bytes";
	default:
		if (entry->span == 0 || entry->span > n_left)
			return "impossible span of a group";
		if (entry->stored_bytes == 0 ||
		    entry->stored_bytes > entry->span * PMIG_PAGE_BYTES)
			return "impossible size of a group";
		return NULL;
	}
}

static bool is_group(uint8_t encoding)
{
	return encoding == PMIG_ENCODING_LZ4 || encoding == PMIG_ENCODING_ZSTD;
}

static int check_follower(const struct frame *frame, struct group *group,
			  const struct wire_entry *entry,
			  struct pmig_error *err)
{
	if (entry->encoding != group->encoding || entry->span ||
	    entry->stored_bytes)
		return bad_field(frame, "a group of pages is interrupted", err);
	group->left--;
	return 0;
}

static int check_entry(const struct frame *frame, struct group *group,
		       const struct wire_entry *entry, uint32_t n_left,
		       struct pmig_error *err)
{
	const char *misfit;

	if (entry->encoding > PMIG_ENCODING_ZSTD)
		return pmig_fail(err, -EBADMSG,
				 "PAGES frame: unknown page encoding %u",
				 entry->encoding);
	if (entry->reserved[0] || entry->reserved[1])
		return bad_field(frame, "a reserved field is set", err);
	if (group->left)
		return check_follower(frame, group, entry, err);
	misfit = misfit_of(entry, n_left);
	if (misfit)
		return bad_field(frame, misfit, err);
	if (is_group(entry->encoding))
		*group = (struct group){entry->span - 1u, entry->encoding};
	else if (entry->span)
		return bad_field(frame, "a span without a group", err);
	return 0;
}

static int check_entries(const struct frame *frame,
			 const struct wire_pages *pages,
			 const struct wire_entry *entries,
			 struct pmig_error *err)
{
	struct group group = {0};
	uint64_t stored_bytes = 0;

	for (uint32_t i = 0; i < pages->entry_count; i++) {
		int rc = check_entry(frame, &group, &entries[i],
				     pages->entry_count - i, err);

		if (rc)
			return rc;
		stored_bytes += entries[i].stored_bytes;
	}
	if (stored_bytes != frame->header.body_bytes)
		return bad_field(frame, "entries and body differ in size", err);
	return 0;
}

/* Where the block lies; every page of the mask must exist. */
static int locate(const struct frame *frame, const struct wire_pages *pages,
		  const struct pmig_memory *memory, struct pmig_block *block,
		  struct pmig_error *err)
{
	const struct pmig_region_map *map;

	if (pages->region >= memory->n_maps)
		return bad_field(frame, "region number out of range", err);
	map = &memory->maps[pages->region];
	if (pages->offset_bytes % PMIG_BLOCK_BYTES ||
	    pages->offset_bytes >= map->region.size_bytes)
		return bad_field(frame, "offset outside its region", err);
	if (!pmig_memory_locate(memory,
				map->first_block +
					pages->offset_bytes / PMIG_BLOCK_BYTES,
				block))
		return bad_field(frame, "offset outside its region", err);
	if (pages->mask & ~block->valid)
		return bad_field(frame, "a page past the end of its region",
				 err);
	return 0;
}

int frame_parse_pages(const struct frame *frame,
		      const struct pmig_memory *memory,
		      const struct wire_pages **pages,
		      const struct wire_entry **entries,
		      struct pmig_block *block, struct pmig_error *err)
{
	const struct wire_pages *p = (const void *)frame->head;
	const struct wire_entry *list =
		(const void *)(frame->head + sizeof(*p));
	uint32_t stored;
	int rc;

	if (frame->header.head_bytes < sizeof(*p))
		return wrong_size(frame, sizeof(*p), err);
	if (p->mask == 0 || (p->zero_mask & ~p->mask))
		return bad_field(frame, "impossible page masks", err);
	stored = (uint32_t)__builtin_popcountll(p->mask & ~p->zero_mask);
	if (p->entry_count != stored ||
	    frame->header.head_bytes != sizeof(*p) + stored * sizeof(*list))
		return bad_field(frame, "entries do not fit the page masks",
				 err);
	rc = check_entries(frame, p, list, err);
	if (!rc)
		rc = locate(frame, p, memory, block, err);
	*pages = p;
	*entries = list;
	return rc;
}
