/* SPDX-License-Identifier: Apache-2.0 */
#include "state/state.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static bool is_name_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
	       c == '/' || c == '_' || c == '-';
}

bool pmig_state_check_name(const char *name)
{
	size_t length = strnlen(name, PMIG_STATE_NAME_BYTES);

	if (length == 0 || length == PMIG_STATE_NAME_BYTES)
		return false;
	for (size_t i = 0; i < length; i++)
		if (!is_name_byte(name[i]))
			return false;
	return true;
}

static const struct pmig_state_wire_item *
wire_item(const struct pmig_state *state, uint32_t number)
{
	return (const void *)(state->data + state->offsets[number]);
}

/* Position in the sorted index of the first name that is not before name. */
static uint32_t lower_bound(const struct pmig_state *state, const char *name)
{
	uint32_t low = 0;
	uint32_t high = state->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		uint32_t number = state->sorted[middle];

		if (strcmp(wire_item(state, number)->name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool is_at(const struct pmig_state *state, uint32_t position,
		  const char *name)
{
	return position < state->count &&
	       !strcmp(wire_item(state, state->sorted[position])->name, name);
}

int pmig_state_grow_index(struct pmig_state *state, struct pmig_error *err)
{
	uint32_t capacity = state->capacity ? state->capacity * 2 : 64;
	uint32_t *grown;

	if (state->count >= PMIG_STATE_MAX_ITEMS)
		return pmig_fail(err, -E2BIG, "a state holds at most %d items",
				 PMIG_STATE_MAX_ITEMS);
	if (state->count < state->capacity)
		return 0;
	grown = reallocarray(state->offsets, capacity, sizeof(*grown));
	if (!grown)
		return pmig_fail_errno(err, "state index");
	state->offsets = grown;
	grown = reallocarray(state->sorted, capacity, sizeof(*grown));
	if (!grown)
		return pmig_fail_errno(err, "state index");
	state->sorted = grown;
	state->capacity = capacity;
	return 0;
}

int pmig_state_index(struct pmig_state *state, uint32_t offset)
{
	const struct pmig_state_wire_item *item =
		(const void *)(state->data + offset);
	uint32_t position = lower_bound(state, item->name);

	if (is_at(state, position, item->name))
		return -EEXIST;
	memmove(state->sorted + position + 1, state->sorted + position,
		(state->count - position) * sizeof(*state->sorted));
	state->sorted[position] = state->count;
	state->offsets[state->count++] = offset;
	return 0;
}

uint32_t pmig_state_count(const struct pmig_state *state)
{
	return state->count;
}

int pmig_state_item(const struct pmig_state *state, uint32_t index,
		    struct pmig_item *item)
{
	const struct pmig_state_wire_item *wire;

	if (index >= state->count)
		return -ENOENT;
	wire = wire_item(state, index);
	*item = (struct pmig_item){
		.name = wire->name,
		.data = (const uint8_t *)(wire + 1),
		.size_bytes = le64toh(wire->size_bytes),
		.version = le32toh(wire->version),
		.flags = le32toh(wire->flags),
	};
	return 0;
}

int pmig_state_find(const struct pmig_state *state, const char *name,
		    struct pmig_item *item)
{
	uint32_t position = lower_bound(state, name);

	if (!is_at(state, position, name))
		return -ENOENT;
	return pmig_state_item(state, state->sorted[position], item);
}
