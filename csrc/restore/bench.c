/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/bench.h"

#include <errno.h>
#include <stdlib.h>

#include "base/error.h"

enum {
	FIRST_DELTAS = 16,
};

int store_bench_init(struct store_bench *bench, struct pmig_error *err)
{
	*bench = (struct store_bench){0};
	bench->staging = malloc(PMIG_BLOCK_BYTES);
	bench->group = malloc(PMIG_BLOCK_BYTES);
	bench->frame = malloc(WIRE_HEADER_BYTES + WIRE_PAGES_HEAD_BYTES);
	if (!bench->staging || !bench->group || !bench->frame)
		return pmig_fail(err, -ENOMEM,
				 "no memory to put pages together");
	return page_decoder_init(&bench->decoder, err);
}

void store_bench_fini(struct store_bench *bench)
{
	page_decoder_fini(&bench->decoder);
	free(bench->deltas);
	free(bench->frame);
	free(bench->group);
	free(bench->staging);
	*bench = (struct store_bench){0};
}

int store_bench_add_delta(struct store_bench *bench, uint64_t at_bytes,
			  uint32_t size_bytes, struct pmig_error *err)
{
	if (bench->n_deltas == bench->deltas_room) {
		size_t room = bench->deltas_room ? 2 * bench->deltas_room
						 : FIRST_DELTAS;
		void *grown =
			realloc(bench->deltas, room * sizeof(*bench->deltas));

		if (!grown)
			return pmig_fail(err, -ENOMEM,
					 "no memory to put a page together "
					 "from %zu deltas",
					 room);
		bench->deltas = grown;
		bench->deltas_room = room;
	}
	bench->deltas[bench->n_deltas++] =
		(struct bench_delta){at_bytes, size_bytes};
	return 0;
}
