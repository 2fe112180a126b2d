/* SPDX-License-Identifier: Apache-2.0 */
/* Pages larger than 4 KiB, whose parts come late and on several channels. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "backing.h"
#include "fault/faults.h"
#include "unit.h"

enum {
	CONTENT = 0x11,
	UNITS = 8,
	UNIT_BLOCKS = HUGE_BYTES / PMIG_BLOCK_BYTES,
	TURNS = 100,
	WAIT_MS = 10000,
};

/* Memory of large pages; of each, one page of the first two blocks misses. */
struct parts {
	struct backed guest;
	struct pmig_memory *memory;
	struct pmig_faults *faults;
	atomic_uint landed; /* parts, so that both threads go on together */
};

/* One who lands the first, or the second, block of every page. */
struct lander {
	struct parts *parts;
	pthread_t thread;
	uint64_t block;
	int rc;
};

static void open_parts(struct parts *parts, enum backing backing)
{
	const struct pmig_faults_config config = {
		.struct_size = sizeof(config),
		.n_handlers = 1,
		.uffd = -1,
	};
	uint64_t missing[UNITS * UNIT_BLOCKS] = {0};
	struct pmig_error err;
	int rc;

	memset(parts, 0, sizeof(*parts));
	for (int i = 0; i < UNITS; i++)
		missing[i * UNIT_BLOCKS] = missing[i * UNIT_BLOCKS + 1] = 1;
	backing_map(&parts->guest, backing, UNITS * HUGE_BYTES);
	parts->memory = backing_describe(&parts->guest);
	rc = pmig_faults_new(parts->memory, &config, &parts->faults, &err);
	if (rc == -ENOTSUP)
		UNIT_SKIP("%s", err.message);
	CHECK_OK(rc, err);
	CHECK_OK(pmig_faults_expect(parts->faults, 0, UNITS * UNIT_BLOCKS,
				    missing, &err),
		 err);
	CHECK_OK(pmig_faults_start(parts->faults, &err), err);
}

static void close_parts(struct parts *parts)
{
	pmig_faults_free(parts->faults);
	pmig_memory_free(parts->memory);
	backing_unmap(&parts->guest);
}

static void *land_parts(void *arg)
{
	static const uint8_t at[PMIG_PAGE_BYTES] = {[0 ... 4095] = CONTENT};
	struct lander *lander = arg;
	struct parts *parts = lander->parts;

	for (unsigned int i = 0; i < UNITS && !lander->rc; i++) {
		struct pmig_block block;
		struct landed landed = {
			.block = &block,
			.number = i * UNIT_BLOCKS + lander->block,
			.pages = 1,
			.at = at,
		};

		pmig_memory_locate(parts->memory, landed.number, &block);
		atomic_fetch_add(&parts->landed, 1);
		while (atomic_load(&parts->landed) < 2 * (i + 1))
			sched_yield();
		lander->rc = faults_land(parts->faults, &landed, NULL);
	}
	return NULL;
}

/* The last parts of a larger page come at once, on two channels. */
static void check_two_at_once(enum backing backing)
{
	struct lander landers[2];
	struct parts parts;
	struct pmig_error err;

	open_parts(&parts, backing);
	for (uint64_t i = 0; i < 2; i++) {
		landers[i] = (struct lander){.parts = &parts, .block = i};
		CHECK_EQ(pthread_create(&landers[i].thread, NULL, land_parts,
					&landers[i]),
			 0);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(landers[i].thread, NULL);
	CHECK_EQ(landers[0].rc, 0);
	CHECK_EQ(landers[1].rc, 0);
	CHECK_OK(pmig_faults_wait(parts.faults, WAIT_MS, &err), err);
	for (uint64_t i = 0; i < UNITS; i++)
		for (uint64_t block = 0; block < 2; block++)
			CHECK_EQ(parts.guest.bytes[i * HUGE_BYTES +
						   block * PMIG_BLOCK_BYTES],
				 CONTENT);
	close_parts(&parts);
}

static void test_two_at_once_hugetlb(void)
{
	for (int turn = 0; turn < TURNS; turn++)
		check_two_at_once(BACKING_HUGETLB);
}

static void test_two_at_once_hugetlb_private(void)
{
	for (int turn = 0; turn < TURNS; turn++)
		check_two_at_once(BACKING_HUGETLB_PRIVATE);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_two_at_once_hugetlb),
		UNIT(test_two_at_once_hugetlb_private),
		UNIT_END,
	});
}
