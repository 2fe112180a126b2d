/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/error.h"
#include "memory/memory.h"

enum {
	BATCH_BLOCKS = 64, /* asked for holes at once */
};

static void hash_block(const struct pmig_memory *memory, uint64_t block,
		       uint64_t present, uint64_t *hashes)
{
	struct pmig_block at;

	memset(hashes, 0, PMIG_BLOCK_PAGES * sizeof(*hashes));
	if (!present || !pmig_memory_locate(memory, block, &at))
		return;
	for (present &= at.valid; present; present &= present - 1) {
		int page = __builtin_ctzll(present);

		if (pmig_page_scan(at.hva + page * PMIG_PAGE_BYTES,
				   &hashes[page]))
			hashes[page] = 0;
	}
}

int pmig_memory_hash(const struct pmig_memory *memory, uint64_t first_block,
		     uint64_t n_blocks, uint64_t *hashes,
		     struct pmig_error *err)
{
	int rc;

	rc = pmig_memory_check_range(memory, first_block, n_blocks, err);
	while (!rc && n_blocks) {
		uint64_t n = n_blocks < BATCH_BLOCKS ? n_blocks : BATCH_BLOCKS;
		uint64_t present[BATCH_BLOCKS];

		rc = pmig_memory_present(memory, first_block, n, present, err);
		if (rc)
			break;
		for (uint64_t i = 0; i < n; i++, hashes += PMIG_BLOCK_PAGES)
			hash_block(memory, first_block + i, present[i], hashes);
		first_block += n;
		n_blocks -= n;
	}
	return rc;
}
