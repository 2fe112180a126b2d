/* SPDX-License-Identifier: Apache-2.0 */
#include "state/state.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* One allocation holds the items of a small machine. */
#define INITIAL_BYTES 65536

int pmig_state_new(struct pmig_state **state, struct pmig_error *err)
{
	struct pmig_state_wire header = {
		.magic = PMIG_STATE_MAGIC,
		.version = htole32(PMIG_STATE_VERSION),
	};
	struct pmig_state *made = calloc(1, sizeof(*made));

	if (!made)
		return pmig_fail_errno(err, "state");
	made->data = malloc(INITIAL_BYTES);
	if (!made->data) {
		pmig_fail_errno(err, "state of %d bytes", INITIAL_BYTES);
		free(made);
		return -ENOMEM;
	}
	memcpy(made->data, &header, sizeof(header));
	made->size_bytes = sizeof(header);
	made->capacity_bytes = INITIAL_BYTES;
	*state = made;
	return 0;
}

void pmig_state_free(struct pmig_state *state)
{
	if (!state)
		return;
	free(state->data);
	free(state->offsets);
	free(state->sorted);
	free(state);
}

/* Make room for more_bytes, of which the caller has checked the sum. */
static int grow_data(struct pmig_state *state, size_t more_bytes,
		     struct pmig_error *err)
{
	size_t needed = state->size_bytes + more_bytes;
	size_t capacity = state->capacity_bytes;
	uint8_t *grown;

	if (needed <= capacity)
		return 0;
	while (capacity < needed)
		capacity *= 2;
	grown = realloc(state->data, capacity);
	if (!grown)
		return pmig_fail_errno(err, "state of %zu bytes", capacity);
	state->data = grown;
	state->capacity_bytes = capacity;
	return 0;
}

static int check_arguments(const struct pmig_state *state, const char *name,
			   uint32_t flags, uint64_t size_bytes,
			   struct pmig_error *err)
{
	uint64_t room = PMIG_MAX_BLOB_BYTES - state->size_bytes;

	if (!pmig_state_check_name(name))
		return pmig_fail(err, -EINVAL,
				 "state item name \"%.47s\" is not 1 to 47 "
				 "bytes of [a-z0-9./_-]",
				 name);
	if (flags & ~(uint32_t)PMIG_ITEM_SKIPPABLE)
		return pmig_fail(err, -EINVAL,
				 "state item %s: unknown flags 0x%x", name,
				 flags);
	if (size_bytes > PMIG_MAX_BLOB_BYTES ||
	    sizeof(struct pmig_state_wire_item) +
			    pmig_state_padded(size_bytes) >
		    room)
		return pmig_fail(err, -E2BIG,
				 "state item %s: %llu bytes do not fit into "
				 "what a state may hold (%d bytes)",
				 name, (unsigned long long)size_bytes,
				 PMIG_MAX_BLOB_BYTES);
	return 0;
}

/* Write header, contents and padding at the end; size_bytes is unchanged. */
static void write_item(struct pmig_state *state,
		       const struct pmig_state_wire_item *header,
		       const void *data, uint64_t size_bytes)
{
	uint8_t *at = state->data + state->size_bytes;

	memcpy(at, header, sizeof(*header));
	at += sizeof(*header);
	if (size_bytes)
		memcpy(at, data, size_bytes);
	memset(at + size_bytes, 0, pmig_state_padded(size_bytes) - size_bytes);
}

static void count_item(struct pmig_state *state, size_t item_bytes)
{
	struct pmig_state_wire *header = (void *)state->data;

	header->count = htole32(state->count);
	state->size_bytes += item_bytes;
}

int pmig_state_add(struct pmig_state *state, const char *name, uint32_t version,
		   uint32_t flags, const void *data, uint64_t size_bytes,
		   struct pmig_error *err)
{
	struct pmig_state_wire_item header = {
		.version = htole32(version),
		.flags = htole32(flags),
		.size_bytes = htole64(size_bytes),
	};
	size_t item_bytes;
	int rc;

	rc = check_arguments(state, name, flags, size_bytes, err);
	if (rc)
		return rc;
	memcpy(header.name, name, strlen(name));
	item_bytes = sizeof(header) + pmig_state_padded(size_bytes);
	rc = pmig_state_grow_index(state, err);
	if (rc)
		return rc;
	rc = grow_data(state, item_bytes, err);
	if (rc)
		return rc;
	write_item(state, &header, data, size_bytes);
	rc = pmig_state_index(state, state->size_bytes);
	if (rc)
		return pmig_fail(err, rc, "state item %s is there already",
				 name);
	count_item(state, item_bytes);
	return 0;
}

int pmig_state_encode(struct pmig_state *state, const uint8_t **data,
		      uint64_t *size_bytes, struct pmig_error *err)
{
	(void)err;
	*data = state->data;
	*size_bytes = state->size_bytes;
	return 0;
}
