/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/prefetch.h"

enum {
	START_PAGES = 4,
	MAX_START_PAGES = 8,
};

void prefetch_init(struct prefetch *prefetch)
{
	*prefetch = (struct prefetch){.start = START_PAGES};
}

/* The sequence that the fault belongs to, or n. */
static uint32_t find(const struct prefetch *prefetch, uint64_t page)
{
	uint32_t i;

	for (i = 0; i < prefetch->n; i++) {
		uint64_t window = prefetch->window[i] + 1;

		/* pushed pages may have let it skip a window */
		if (page + window >= prefetch->next[i] &&
		    page <= prefetch->next[i] + window)
			break;
	}
	return i;
}

static uint32_t begin(struct prefetch *prefetch)
{
	prefetch->start /= 2;
	if (prefetch->n < PREFETCH_SEQUENCES)
		return prefetch->n++;
	prefetch->turn = (prefetch->turn + 1) % PREFETCH_SEQUENCES;
	return prefetch->turn;
}

static uint32_t grown(uint32_t window)
{
	if (!window)
		return 1;
	return 2 * window < PREFETCH_MAX_PAGES ? 2 * window
					       : PREFETCH_MAX_PAGES;
}

uint32_t prefetch_window(struct prefetch *prefetch, uint64_t page)
{
	uint32_t i = find(prefetch, page);

	if (i < prefetch->n) {
		prefetch->window[i] = grown(prefetch->window[i]);
		if (prefetch->start < MAX_START_PAGES)
			prefetch->start = grown(prefetch->start);
	} else {
		i = begin(prefetch);
		prefetch->window[i] = prefetch->start;
	}
	prefetch->next[i] = page + prefetch->window[i] + 1;
	return prefetch->window[i];
}
