/* SPDX-License-Identifier: Apache-2.0 */
#include "fault/pages.h"

#include <errno.h>

#include "base/clock.h"
#include "base/error.h"
#include "fault/probe.h"

bool faults_unit_missing(const struct pmig_faults *faults,
			 const struct fault_unit *unit)
{
	for (uint64_t i = 0; i < unit->n; i++)
		if (faults->missing[unit->first + i])
			return true;
	return false;
}

void faults_clear(struct pmig_faults *faults, uint64_t block, uint64_t pages)
{
	pages &= faults->missing[block];
	faults->missing[block] &= ~pages;
	faults->asked[block] &= ~pages;
	faults->kept[block] &= ~pages;
	faults->n_missing -= (uint64_t)__builtin_popcountll(pages);
}

void faults_forget(struct pmig_faults *faults, uint64_t block, uint64_t pages)
{
	if (faults->record)
		foreign_forget(faults->record, block, pages);
}

/* What was asked for first was touched first. */
static void note_touched(struct pmig_faults *faults, uint64_t block,
			 uint64_t pages)
{
	for (; pages; pages &= pages - 1) {
		if (faults->n_touched == PMIG_MAX_TOUCHED_PAGES)
			return;
		faults->touched[faults->n_touched++] =
			block * PMIG_BLOCK_PAGES +
			(uint64_t)__builtin_ctzll(pages);
	}
}

static struct wire_request request_for(const struct pmig_faults *faults,
				       uint64_t number, uint64_t pages,
				       uint32_t flags)
{
	struct pmig_block block;

	pmig_memory_locate(faults->memory, number, &block);
	return (struct wire_request){
		.pages = pages,
		.offset_bytes = block.offset_bytes,
		.region = (uint32_t)(block.map - faults->memory->maps),
		.flags = flags,
	};
}

void faults_ask(struct pmig_faults *faults, uint64_t block, uint64_t pages)
{
	struct wire_request request;

	pages &= faults->missing[block] & ~faults->asked[block];
	if (!pages)
		return;
	request = request_for(faults, block, pages, 0);
	if (!ask_for(&faults->ask, block, &request))
		return;
	faults->asked[block] |= pages;
	note_touched(faults, block, pages);
}

void faults_ask_waiting(struct pmig_faults *faults)
{
	for (uint32_t i = 0; i < faults->waiting.n; i++) {
		struct waiting *fault = &faults->waiting.entries[i];
		const struct pmig_region_map *map =
			pmig_memory_map_of(faults->memory, fault->block);
		struct fault_unit unit = fault_unit_of(map, fault->block);

		if (fault->asked_ns && faults->asked[fault->block])
			continue;
		fault->asked_ns = pmig_now_ns();
		if (!fault_is_large(map))
			faults_ask(faults, fault->block,
				   UINT64_C(1) << fault->page);
		for (uint64_t k = 0; fault_is_large(map) && k < unit.n; k++)
			faults_ask(faults, unit.first + k, ~UINT64_C(0));
	}
}

void faults_refused(struct pmig_faults *faults, uint64_t block, uint64_t pages)
{
	struct wire_request request;

	pthread_mutex_lock(&faults->lock);
	pages &= faults->missing[block];
	request = request_for(faults, block, pages, WIRE_REQUEST_INDEPENDENT);
	if (pages && ask_for(&faults->ask, block, &request))
		faults->asked[block] |= pages;
	pthread_mutex_unlock(&faults->lock);
}

bool faults_say_placed(struct pmig_faults *faults, uint32_t channel,
		       uint64_t pages)
{
	return ask_placed(&faults->ask, channel, pages);
}

uint64_t faults_missing(struct pmig_faults *faults, uint64_t block,
			uint64_t pages)
{
	pthread_mutex_lock(&faults->lock);
	pages &= faults->missing[block];
	pthread_mutex_unlock(&faults->lock);
	return pages;
}

static bool is_complete(struct pmig_faults *faults)
{
	bool found;

	pthread_mutex_lock(&faults->lock);
	found = !faults->n_missing && faults->started_ns;
	pthread_mutex_unlock(&faults->lock);
	return found;
}

int faults_check_complete(struct pmig_faults *faults)
{
	bool now;
	int rc;

	if (!is_complete(faults))
		return 0;
	rc = probe_place_all(faults);
	if (rc)
		return rc;
	pthread_mutex_lock(&faults->lock);
	now = !faults->n_missing && faults->started_ns && !faults->complete_ns;
	if (now) {
		faults->complete_ns = pmig_now_ns();
		ask_no_more(&faults->ask);
		pthread_cond_broadcast(&faults->changed);
	}
	pthread_mutex_unlock(&faults->lock);
	if (now)
		faults_unregister(faults);
	return 0;
}

void faults_fail(struct pmig_faults *faults, const struct pmig_error *err)
{
	pthread_mutex_lock(&faults->lock);
	if (!faults->failed.code)
		faults->failed = *err;
	pthread_cond_broadcast(&faults->changed);
	pthread_mutex_unlock(&faults->lock);
}

/* ---- outstanding pages ------------------------------------------------- */

/* New ones of a block of small pages are taken away at once. */
static int withdraw_block(struct pmig_faults *faults,
			  const struct pmig_block *block, uint64_t number,
			  uint64_t fresh, uint64_t written,
			  struct pmig_error *err)
{
	const struct landing *landing = faults_landing(faults, block);

	faults->kept[number] |= fresh & written;
	return landing_withdraw(landing, block, fresh, fresh & written, err);
}

/* A larger page is taken away when the first of its pages is outstanding. */
static int withdraw_unit(struct pmig_faults *faults,
			 const struct pmig_block *block, uint64_t number,
			 const uint64_t *written, struct pmig_error *err)
{
	const struct fault_unit unit = fault_unit_of(block->map, number);
	const struct landing *landing = faults_landing(faults, block);
	uint64_t any = 0;

	if (faults_unit_missing(faults, &unit))
		return 0;
	for (uint64_t i = 0; written && i < unit.n; i++) {
		any |= written[unit.first + i];
		faults->kept[unit.first + i] = written[unit.first + i];
	}
	return landing_withdraw_large(landing,
				      (unit.first - block->map->first_block) *
					      PMIG_BLOCK_BYTES,
				      any != 0, err);
}

static int withdraw(struct pmig_faults *faults, const struct pmig_block *block,
		    uint64_t number, uint64_t fresh, const uint64_t *written,
		    struct pmig_error *err)
{
	/* another process's memory is untouched, or its owner's business */
	if (faults->foreign)
		return 0;
	if (fault_is_large(block->map))
		return withdraw_unit(faults, block, number, written, err);
	return withdraw_block(faults, block, number, fresh,
			      written ? written[number] : 0, err);
}

/* Memory that nobody touched has nothing that could be taken away. */
static int make_outstanding(struct pmig_faults *faults, uint64_t number,
			    uint64_t pages, const uint64_t *written,
			    bool untouched, struct pmig_error *err)
{
	uint64_t fresh = pages & ~faults->missing[number];
	struct pmig_block block;
	int rc = 0;

	if (!pmig_memory_locate(faults->memory, number, &block) ||
	    pages & ~block.valid)
		return pmig_fail(err, -EBADMSG,
				 "an outstanding page past the end of its "
				 "region");
	/* others were placed, or removed, before we went on */
	if (faults->record)
		fresh &= foreign_recorded(faults->record, number);
	if (!fresh)
		return 0;
	if (!untouched)
		rc = withdraw(faults, &block, number, fresh, written, err);
	if (rc)
		return rc;
	faults->missing[number] |= fresh;
	faults->n_missing += (uint64_t)__builtin_popcountll(fresh);
	return 0;
}

static int make_all_outstanding(struct pmig_faults *faults,
				uint64_t first_block, const uint64_t *words,
				uint64_t n_blocks, const uint64_t *written,
				bool untouched, struct pmig_error *err)
{
	int rc = 0;

	pthread_mutex_lock(&faults->lock);
	if (faults->started_ns)
		rc = pmig_fail(err, -EBADMSG,
			       "pages become outstanding while the guest runs");
	else
		faults_forbid_huge_pages(faults);
	for (uint64_t i = 0; i < n_blocks && !rc; i++)
		if (words[i])
			rc = make_outstanding(faults, first_block + i, words[i],
					      written, untouched, err);
	pthread_mutex_unlock(&faults->lock);
	return rc;
}

int faults_outstanding(struct pmig_faults *faults, uint64_t first_block,
		       const uint64_t *words, uint64_t n_blocks,
		       const uint64_t *written, struct pmig_error *err)
{
	return make_all_outstanding(faults, first_block, words, n_blocks,
				    written, false, err);
}

int faults_outstanding_untouched(struct pmig_faults *faults,
				 const uint64_t *words, struct pmig_error *err)
{
	return make_all_outstanding(faults, 0, words, faults->memory->n_blocks,
				    NULL, true, err);
}
