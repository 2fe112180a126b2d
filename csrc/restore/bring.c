/* SPDX-License-Identifier: Apache-2.0 */
/* bring.c - pages from the store to the guest; theory in restore.h */
#include <errno.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/clock.h"
#include "base/error.h"
#include "restore/restore.h"

uint64_t restore_claim(struct pmig_restore *restore, uint64_t block,
		       uint64_t pages)
{
	return pmig_bits_take_some(&restore->todo[block], pages);
}

/* Put together what is wanted, and what comes along with it. */
static int fetch(struct restore_worker *worker, struct store_lot *lot,
		 struct pmig_error *err)
{
	struct pmig_restore *restore = worker->restore;
	const struct page_store *store = restore->store;
	uint64_t gain;
	int rc = store->ops->survey(store, &worker->bench, lot->number,
				    lot->wanted, &gain, err);

	if (rc)
		return rc;
	if (gain & ~lot->wanted)
		lot->wanted |= restore_claim(restore, lot->number,
					     gain & ~lot->wanted);
	return store->ops->fetch(store, &worker->bench, lot, err);
}

static int land(struct restore_worker *worker, const struct store_lot *lot,
		uint64_t arrived_ns, uint64_t since_ns, struct pmig_error *err)
{
	const struct landed landed = {
		.block = &lot->block,
		.number = lot->number,
		.pages = lot->wanted & ~lot->zero,
		.zero = lot->zero & lot->wanted,
		.at = lot->at,
		.arrived_ns = arrived_ns,
		.answer = since_ns != 0,
		/* there is no network: all of that time it was queued here */
		.waited_ns = since_ns ? arrived_ns - since_ns : 0,
	};

	return faults_land(worker->restore->faults, &landed, err);
}

static int bring(struct restore_worker *worker, struct store_lot *lot,
		 uint64_t since_ns, atomic_uint_least64_t *counter,
		 struct pmig_error *err)
{
	uint64_t arrived_ns = pmig_now_ns(), n;
	int rc = fetch(worker, lot, err);

	if (rc)
		return rc;
	n = (uint64_t)__builtin_popcountll(lot->wanted);
	*counter += n;
	rc = land(worker, lot, arrived_ns, since_ns, err);
	if (rc)
		*counter -= n;
	return rc;
}

/* One of them is bad; the others need not suffer for that. */
static void bring_each(struct restore_worker *worker,
		       const struct store_lot *failed, uint64_t since_ns,
		       atomic_uint_least64_t *counter)
{
	for (uint64_t left = failed->wanted; left; left &= left - 1) {
		struct store_lot lot = *failed;

		lot.wanted = left & -left;
		bring(worker, &lot, since_ns, counter, NULL);
	}
}

int restore_bring(struct restore_worker *worker, uint64_t block, uint64_t pages,
		  uint64_t since_ns, atomic_uint_least64_t *counter)
{
	struct store_lot lot = {
		.number = block,
		.wanted = pages,
		.at = worker->bench.staging,
	};
	struct pmig_error err;
	int rc;

	pmig_memory_locate(worker->restore->memory, block, &lot.block);
	rc = bring(worker, &lot, since_ns, counter, &err);
	worker->read_bytes = worker->bench.read_bytes;
	if (!rc)
		return __builtin_popcountll(lot.wanted);
	faults_fail(worker->restore->faults, &err);
	if (lot.wanted & (lot.wanted - 1))
		bring_each(worker, &lot, since_ns, counter);
	return rc;
}
