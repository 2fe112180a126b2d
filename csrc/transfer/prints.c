/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/prints.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/error.h"

enum {
	BLOCK_PRINTS_BYTES = PMIG_BLOCK_PAGES * sizeof(struct line_prints),
	/* a page that was not sent for so many epochs has become cold */
	KEPT_EPOCHS = 2,
};

static size_t table_bytes(const struct prints *prints)
{
	return prints->n_blocks * BLOCK_PRINTS_BYTES;
}

int prints_init(struct prints *prints, const struct pmig_memory *memory,
		uint64_t limit_bytes, struct pmig_error *err)
{
	void *table;

	prints->n_blocks = memory->n_blocks;
	prints->kernel = line_kernel_best();
	prints->limit_blocks = limit_bytes ? limit_bytes / BLOCK_PRINTS_BYTES
					   : memory->n_blocks;
	prints->valid = calloc(memory->n_blocks, sizeof(*prints->valid));
	prints->used = calloc(memory->n_blocks, sizeof(*prints->used));
	table = mmap(NULL, table_bytes(prints), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (table != MAP_FAILED)
		prints->table = table;
	if (!prints->valid || !prints->used || !prints->table)
		return pmig_fail(err, -ENOMEM,
				 "no address space for the fingerprints of "
				 "sent pages");
	return line_key_init(&prints->key, err);
}

void prints_fini(struct prints *prints)
{
	if (prints->table)
		munmap(prints->table, table_bytes(prints));
	free(prints->used);
	free(prints->valid);
}

bool prints_cover_all(const struct prints *prints)
{
	return prints->limit_blocks >= prints->n_blocks;
}

bool prints_hold(struct prints *prints, uint64_t block, uint64_t epoch)
{
	if (!prints->used[block] &&
	    atomic_fetch_add(&prints->held_blocks, 1) >= prints->limit_blocks) {
		atomic_fetch_sub(&prints->held_blocks, 1);
		return false;
	}
	prints->used[block] = epoch;
	return true;
}

static void give_back(struct prints *prints, uint64_t block)
{
	madvise(prints_of(prints, block, 0), BLOCK_PRINTS_BYTES, MADV_DONTNEED);
	prints->valid[block] = 0;
	prints->used[block] = 0;
	prints->held_blocks--;
}

void prints_evict(struct prints *prints, uint64_t epoch)
{
	if (prints->held_blocks < prints->limit_blocks ||
	    prints_cover_all(prints))
		return;
	for (uint64_t i = 0; i < prints->n_blocks; i++)
		if (prints->used[i] && prints->used[i] + KEPT_EPOCHS < epoch)
			give_back(prints, i);
}

uint64_t prints_bytes(const struct prints *prints)
{
	return prints->held_blocks * BLOCK_PRINTS_BYTES;
}
