/* SPDX-License-Identifier: Apache-2.0 */
/* Which late pages are pushed first, and which not at all. */
#include <errno.h>
#include <string.h>

#include "guest_memory.h"
#include "late_pair.h"
#include "transfer/late_pages.h"
#include "unit.h"

enum {
	N_BLOCKS = 8,
	SIZE_BYTES = N_BLOCKS * PMIG_BLOCK_BYTES,
	N_PAGES = N_BLOCKS * PMIG_BLOCK_PAGES,
	LIMIT = 16,
};

struct ledger {
	struct guest_memory guest;
	struct late_pages late;
};

static void open_ledger(struct ledger *ledger)
{
	memset(ledger, 0, sizeof(*ledger));
	guest_memory_open(&ledger->guest, SIZE_BYTES, false);
	CHECK_EQ(late_pages_init(&ledger->late, ledger->guest.memory), 0);
	for (uint64_t i = 0; i < N_BLOCKS; i++)
		late_pages_owe(&ledger->late, i, ~UINT64_C(0), false);
}

static void close_ledger(struct ledger *ledger)
{
	late_pages_fini(&ledger->late);
	guest_memory_close(&ledger->guest);
}

static void expect(struct ledger *ledger, uint64_t block, uint64_t pages)
{
	uint64_t found = N_BLOCKS;

	CHECK(late_pages_due(&ledger->late));
	CHECK_EQ(late_pages_next(&ledger->late, LIMIT, &found), pages);
	CHECK_EQ(found, block);
}

static void expect_nothing(struct ledger *ledger)
{
	uint64_t block;

	CHECK(!late_pages_due(&ledger->late));
	CHECK_EQ(late_pages_next(&ledger->late, LIMIT, &block), 0);
}

static const uint64_t first[] = {5 * 64 + 3, 2 * 64, 5 * 64 + 1, 7 * 64 + 63};

/* In their order; those that lie beside one go with it. */
static void test_first_pages_come_first(void)
{
	struct ledger ledger;

	open_ledger(&ledger);
	CHECK_EQ(late_pages_first(&ledger.late, first, 4, PMIG_PUSH_ALL), 0);
	expect(&ledger, 5, 0xa);
	expect(&ledger, 2, 0x1);
	expect(&ledger, 7, UINT64_C(1) << 63);
	expect(&ledger, 0, 0xffff);
	close_ledger(&ledger);
}

static void test_others_stay(void)
{
	struct ledger ledger;

	open_ledger(&ledger);
	CHECK_EQ(late_pages_first(&ledger.late, first, 4, PMIG_PUSH_FIRST), 0);
	/* it was asked for before its turn came */
	CHECK_EQ(late_pages_take(&ledger.late, 2, 1), 1);
	expect(&ledger, 5, 0xa);
	expect(&ledger, 7, UINT64_C(1) << 63);
	expect_nothing(&ledger);
	late_pages_focus(&ledger.late, 3);
	expect_nothing(&ledger);
	CHECK_EQ(ledger.late.left, N_PAGES - 4);
	/* what is asked for is there all the same */
	CHECK_EQ(late_pages_take(&ledger.late, 3, 0xff), 0xff);
	close_ledger(&ledger);
}

static void test_nothing_is_pushed(void)
{
	struct ledger ledger;

	open_ledger(&ledger);
	CHECK_EQ(late_pages_first(&ledger.late, first, 4, PMIG_PUSH_NONE), 0);
	expect_nothing(&ledger);
	CHECK_EQ(late_pages_first(&ledger.late, NULL, 0, PMIG_PUSH_ALL), 0);
	expect(&ledger, 0, 0xffff);
	close_ledger(&ledger);
}

/* A page that is refused is owed again, and its turn comes again. */
static void test_owed_again(void)
{
	struct ledger ledger;

	open_ledger(&ledger);
	CHECK_EQ(late_pages_first(&ledger.late, first, 1, PMIG_PUSH_FIRST), 0);
	expect(&ledger, 5, 0x8);
	expect_nothing(&ledger);
	CHECK_EQ(late_pages_first(&ledger.late, first, 1, PMIG_PUSH_ALL), 0);
	late_pages_owe(&ledger.late, 5, 0x8, true);
	expect(&ledger, 5, 0x8);
	expect(&ledger, 0, 0xffff);
	close_ledger(&ledger);
}

/* ---- a sender that is told --------------------------------------------- */

static void test_pages_outside_memory_are_refused(void)
{
	static const uint64_t far[] = {0, 1 << 20};
	struct pmig_error err;
	struct late_pair pair;

	late_open(&pair, BACKING_ANONYMOUS, SIZE_BYTES, 0);
	late_connect(&pair);
	CHECK_EQ(pmig_sender_first(pair.sender, far, 2, PMIG_PUSH_ALL, &err),
		 -EINVAL);
	CHECK(strstr(err.message, "outside of memory"));
	CHECK_EQ(pmig_sender_first(pair.sender, far, 1,
				   (enum pmig_push)(PMIG_PUSH_NONE + 1), &err),
		 -EINVAL);
	CHECK_OK(pmig_sender_first(pair.sender, far, 1, PMIG_PUSH_ALL, &err),
		 err);
	late_close(&pair);
}

/* Then it is still, and sends what is asked for. */
static void test_a_sender_that_pushes_little(void)
{
	struct pmig_error err;
	struct late_pair pair;

	late_open(&pair, BACKING_ANONYMOUS, SIZE_BYTES, 0);
	late_fill(&pair, 0, N_PAGES, 7);
	late_leave_all(&pair);
	CHECK_OK(
		pmig_sender_first(pair.sender, first, 4, PMIG_PUSH_FIRST, &err),
		err);
	late_start(&pair);
	for (uint64_t page = 0; page < 100; page++)
		CHECK(late_same(&pair, page));
	late_await(&pair, N_PAGES - 104);
	CHECK(pmig_faults_missing_pages(pair.faults) > N_PAGES / 2);
	for (uint64_t page = 100; page < N_PAGES; page++)
		CHECK(late_same(&pair, page));
	late_wait(&pair);
	late_close(&pair);
}

/* First nothing but what is asked for, and all the rest once it is told to. */
static void test_a_sender_that_begins_to_push(void)
{
	struct pmig_error err;
	struct late_pair pair;

	late_open(&pair, BACKING_ANONYMOUS, SIZE_BYTES, 0);
	late_fill(&pair, 0, N_PAGES, 7);
	late_leave_all(&pair);
	CHECK_EQ(pmig_sender_push(pair.sender,
				  (enum pmig_push)(PMIG_PUSH_NONE + 1), &err),
		 -EINVAL);
	CHECK_OK(pmig_sender_push(pair.sender, PMIG_PUSH_NONE, &err), err);
	late_start(&pair);
	for (uint64_t page = 0; page < 100; page++)
		CHECK(late_same(&pair, page));
	/* the guest goes on before the page is counted */
	late_await(&pair, N_PAGES - 100);
	CHECK_EQ(pmig_faults_missing_pages(pair.faults), N_PAGES - 100);
	CHECK_OK(pmig_sender_push(pair.sender, PMIG_PUSH_ALL, &err), err);
	late_wait(&pair);
	for (uint64_t page = 100; page < N_PAGES; page++)
		CHECK(late_same(&pair, page));
	late_close(&pair);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_first_pages_come_first),
		UNIT(test_others_stay),
		UNIT(test_nothing_is_pushed),
		UNIT(test_owed_again),
		UNIT(test_pages_outside_memory_are_refused),
		UNIT(test_a_sender_that_pushes_little),
		UNIT(test_a_sender_that_begins_to_push),
		UNIT_END,
	});
}
