/* SPDX-License-Identifier: Apache-2.0 */
#include "guarded.h"

#include <string.h>
#include <sys/mman.h>

#include "unit.h"

enum {
	GUARD_BYTES = 4096,
	UNTOUCHED = 0xa7,
};

void guarded_open(struct guarded *guarded, size_t size_bytes)
{
	size_t room = (size_bytes + 2 * GUARD_BYTES - 1) & -(size_t)GUARD_BYTES;
	void *map = mmap(NULL, room + GUARD_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(map != MAP_FAILED);
	guarded->map = map;
	guarded->map_bytes = room + GUARD_BYTES;
	guarded->size_bytes = size_bytes;
	guarded->data = guarded->map + room - size_bytes;
	memset(map, UNTOUCHED, room);
	CHECK_EQ(mprotect(guarded->map + room, GUARD_BYTES, PROT_NONE), 0);
}

void guarded_copy(struct guarded *guarded, const void *from, size_t size_bytes)
{
	guarded_open(guarded, size_bytes);
	memcpy(guarded->data, from, size_bytes);
}

void guarded_close(struct guarded *guarded)
{
	munmap(guarded->map, guarded->map_bytes);
}

bool guarded_intact(const struct guarded *guarded)
{
	for (const uint8_t *at = guarded->map; at < guarded->data; at++)
		if (*at != UNTOUCHED)
			return false;
	return true;
}
