/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decode.c - a list of items from a peer
 *
 * Nothing in it is trusted: every length is checked against what is left
 * before it is used, and whatever the format calls zero has to be zero, so
 * that a list has exactly one encoding.
 */
#include "state/state.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static int check_header(const struct pmig_state_wire *header, uint32_t *count,
			struct pmig_error *err)
{
	if (memcmp(header->magic, PMIG_STATE_MAGIC, sizeof(header->magic)))
		return pmig_fail(
			err, -EBADMSG,
			"state: does not start with " PMIG_STATE_MAGIC);
	if (le32toh(header->version) != PMIG_STATE_VERSION)
		return pmig_fail(err, -EBADMSG,
				 "state: format version %u, this library "
				 "reads version %d",
				 le32toh(header->version), PMIG_STATE_VERSION);
	if (header->reserved)
		return pmig_fail(err, -EBADMSG,
				 "state: the reserved field is not 0");
	*count = le32toh(header->count);
	if (*count > PMIG_STATE_MAX_ITEMS)
		return pmig_fail(err, -EBADMSG,
				 "state: %u items, at most %d are allowed",
				 *count, PMIG_STATE_MAX_ITEMS);
	return 0;
}

static bool is_zero(const void *data, size_t size_bytes)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < size_bytes; i++)
		if (bytes[i])
			return false;
	return true;
}

static int check_item_header(const struct pmig_state_wire_item *item,
			     uint32_t number, struct pmig_error *err)
{
	size_t length;

	if (!pmig_state_check_name(item->name))
		return pmig_fail(err, -EBADMSG,
				 "state: the name of item %u is not 1 to 47 "
				 "bytes of [a-z0-9./_-]",
				 number);
	length = strlen(item->name);
	if (!is_zero(item->name + length, sizeof(item->name) - length))
		return pmig_fail(err, -EBADMSG,
				 "state item %s: its name is not padded with "
				 "zero bytes",
				 item->name);
	if (le32toh(item->flags) & ~(uint32_t)PMIG_ITEM_SKIPPABLE)
		return pmig_fail(err, -EBADMSG,
				 "state item %s: unknown flags 0x%x",
				 item->name, le32toh(item->flags));
	return 0;
}

/* Check the contents that follow an item's header; room is what is left. */
static int check_contents(const struct pmig_state_wire_item *item, size_t room,
			  uint64_t *padded_bytes, struct pmig_error *err)
{
	uint64_t size_bytes = le64toh(item->size_bytes);
	const uint8_t *contents = (const uint8_t *)(item + 1);

	if (size_bytes > room || pmig_state_padded(size_bytes) > room)
		return pmig_fail(err, -EBADMSG,
				 "state item %s: its %llu bytes are cut off "
				 "after %zu",
				 item->name, (unsigned long long)size_bytes,
				 room);
	*padded_bytes = pmig_state_padded(size_bytes);
	if (!is_zero(contents + size_bytes, *padded_bytes - size_bytes))
		return pmig_fail(err, -EBADMSG,
				 "state item %s: its contents are not padded "
				 "with zero bytes",
				 item->name);
	return 0;
}

static int walk_item(struct pmig_state *state, size_t *offset,
		     struct pmig_error *err)
{
	const struct pmig_state_wire_item *item =
		(const void *)(state->data + *offset);
	size_t room = state->size_bytes - *offset;
	uint64_t padded_bytes = 0;
	int rc;

	if (room < sizeof(*item))
		return pmig_fail(err, -EBADMSG,
				 "state: item %u is cut off in its header",
				 state->count);
	rc = check_item_header(item, state->count, err);
	if (rc)
		return rc;
	rc = check_contents(item, room - sizeof(*item), &padded_bytes, err);
	if (rc)
		return rc;
	rc = pmig_state_grow_index(state, err);
	if (rc)
		return rc;
	if (pmig_state_index(state, *offset))
		return pmig_fail(err, -EBADMSG, "state item %s occurs twice",
				 item->name);
	*offset += sizeof(*item) + padded_bytes;
	return 0;
}

static int walk(struct pmig_state *state, struct pmig_error *err)
{
	size_t offset = sizeof(struct pmig_state_wire);
	uint32_t count = 0;
	int rc;

	rc = check_header((const void *)state->data, &count, err);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < count; i++) {
		rc = walk_item(state, &offset, err);
		if (rc)
			return rc;
	}
	if (offset != state->size_bytes)
		return pmig_fail(err, -EBADMSG,
				 "state: %zu bytes follow the last item",
				 state->size_bytes - offset);
	return 0;
}

/* An empty index over a copy of the peer's bytes. */
static int copy_in(const void *data, size_t size_bytes,
		   struct pmig_state **state, struct pmig_error *err)
{
	struct pmig_state *made = calloc(1, sizeof(*made));

	if (!made)
		return pmig_fail_errno(err, "state");
	made->data = malloc(size_bytes);
	if (!made->data) {
		pmig_fail_errno(err, "state of %zu bytes", size_bytes);
		free(made);
		return -ENOMEM;
	}
	memcpy(made->data, data, size_bytes);
	made->size_bytes = size_bytes;
	made->capacity_bytes = size_bytes;
	*state = made;
	return 0;
}

int pmig_state_decode(const void *data, uint64_t size_bytes,
		      struct pmig_state **state, struct pmig_error *err)
{
	struct pmig_state *made = NULL;
	int rc;

	if (size_bytes < sizeof(struct pmig_state_wire))
		return pmig_fail(err, -EBADMSG,
				 "state: %llu bytes are too few for a list",
				 (unsigned long long)size_bytes);
	if (size_bytes > PMIG_MAX_BLOB_BYTES)
		return pmig_fail(err, -EBADMSG,
				 "state: %llu bytes, at most %d are allowed",
				 (unsigned long long)size_bytes,
				 PMIG_MAX_BLOB_BYTES);
	rc = copy_in(data, size_bytes, &made, err);
	if (rc)
		return rc;
	rc = walk(made, err);
	if (rc) {
		pmig_state_free(made);
		return rc;
	}
	*state = made;
	return 0;
}
