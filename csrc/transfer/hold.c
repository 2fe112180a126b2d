/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "transfer/hold.h"

int hold_init(struct hold *hold, uint64_t n_blocks)
{
	hold->on = false;
	hold->once = calloc(n_blocks, sizeof(*hold->once));
	hold->twice = calloc(n_blocks, sizeof(*hold->twice));
	return hold->once && hold->twice ? 0 : -ENOMEM;
}

void hold_fini(struct hold *hold)
{
	free(hold->once);
	free(hold->twice);
}

uint64_t hold_allowed(const struct hold *hold, uint64_t block,
		      enum pmig_epoch_kind kind)
{
	if (!hold->on || kind == PMIG_EPOCH_SEALED)
		return ~UINT64_C(0);
	return ~hold->twice[block];
}

void hold_note(struct hold *hold, uint64_t block, uint64_t epoch, uint64_t sent,
	       uint64_t held)
{
	uint64_t once = epoch > 1 ? sent | held : 0;
	uint64_t twice = (hold->once[block] & sent) | held;

	/* most are none, and stay in everybody's cache */
	if (hold->once[block] != once)
		hold->once[block] = once;
	if (hold->twice[block] != twice)
		hold->twice[block] = twice;
}
