/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.h - the list of state items, kept in its encoded form
 *
 * A state is one growing buffer that always holds the encoded list of
 * docs/stream-format.md ("State items"), and an index into it.  So encoding
 * is a pointer, decoding is one copy and one walk, and a saved item is copied
 * once.  Items keep the order they were added in.
 *
 * The index is sorted by name: finding is a binary search, and no choice of
 * names by a peer makes it slower than that.
 */
#ifndef PMIG_STATE_STATE_H
#define PMIG_STATE_STATE_H

#include "pymigrate.h"

enum {
	PMIG_STATE_VERSION = 1,
	PMIG_STATE_NAME_BYTES = 48, /* with the final zero byte */
	PMIG_STATE_MAX_ITEMS = 65536,
	PMIG_STATE_ALIGN_BYTES = 8,
};

#define PMIG_STATE_MAGIC "PMST"

/* The list as it travels; all integers little-endian. */
struct pmig_state_wire {
	char magic[4];
	uint32_t version;
	uint32_t count;
	uint32_t reserved;
};

struct pmig_state_wire_item {
	char name[PMIG_STATE_NAME_BYTES];
	uint32_t version;
	uint32_t flags;
	uint64_t size_bytes;
};

_Static_assert(sizeof(struct pmig_state_wire) == 16, "list header");
_Static_assert(sizeof(struct pmig_state_wire_item) == 64, "item header");

/**
 * struct pmig_state - a list of items
 * @data:	the encoded list
 * @size_bytes:	used bytes of @data, a multiple of 8
 * @capacity_bytes: allocated bytes of @data
 * @offsets:	offset in @data of each item's header, in list order
 * @sorted:	item numbers in order of their names
 * @count:	number of items, also in the header of @data
 * @capacity:	allocated entries of @offsets and @sorted
 */
struct pmig_state {
	uint8_t *data;
	size_t size_bytes;
	size_t capacity_bytes;
	uint32_t *offsets;
	uint32_t *sorted;
	uint32_t count;
	uint32_t capacity;
};

/* Contents are padded to this, so that every header is aligned. */
static inline uint64_t pmig_state_padded(uint64_t size_bytes)
{
	return (size_bytes + PMIG_STATE_ALIGN_BYTES - 1) &
	       ~(uint64_t)(PMIG_STATE_ALIGN_BYTES - 1);
}

/**
 * pmig_state_check_name() - 1 to 47 bytes of [a-z0-9./_-]
 * @name:	at least PMIG_STATE_NAME_BYTES bytes or NUL-terminated
 */
bool pmig_state_check_name(const char *name);

/* Make room for one more entry in the index. */
int pmig_state_grow_index(struct pmig_state *state, struct pmig_error *err);

/**
 * pmig_state_index() - enter the item at offset into the index
 * @state:	with room made by pmig_state_grow_index()
 * @offset:	of an item header with a valid name
 *
 * Return: 0, or -EEXIST where the name is already there.
 */
int pmig_state_index(struct pmig_state *state, uint32_t offset);

#endif
