/* SPDX-License-Identifier: Apache-2.0 */
/* Pages that came along with an answer, and are watched: csrc/fault/probe.h. */
#include <sched.h>
#include <sys/mman.h>

#include "late_wire.h"
#include "unit.h"

enum {
	OLD = 0x11,
	URGENT = 1,
	WAIT_MS = 10000,
	HALF = LATE_WIRE_BLOCKS / 2,
	HALF_PAGES = HALF * PMIG_BLOCK_PAGES,
};

static const uint64_t all = ~UINT64_C(0);

static struct pmig_faults_report look(const struct late_wire *wire)
{
	struct pmig_faults_report report = {.struct_size = sizeof(report)};

	pmig_faults_report(wire->faults, &report);
	return report;
}

/* Half of the memory comes on the urgent channel, and nobody asked for it. */
static void open_half(struct late_wire *wire, enum backing backing)
{
	late_wire_open(wire, backing, 2);
	late_wire_depart(wire, all);
	late_wire_begin(wire);
	for (uint64_t block = 0; block < HALF; block++)
		late_wire_pages(wire, URGENT, block, all, OLD, true);
	while (pmig_faults_missing_pages(wire->faults) > HALF_PAGES)
		sched_yield();
}

static void bring_rest(struct late_wire *wire)
{
	struct pmig_error err;

	for (uint64_t block = HALF; block < LATE_WIRE_BLOCKS; block++)
		late_wire_pages(wire, 0, block, all, OLD, true);
	CHECK_OK(pmig_faults_wait(wire->faults, WAIT_MS, &err), err);
}

static void check_use(enum backing backing)
{
	struct pmig_faults_report before, after;
	struct late_wire wire;

	open_half(&wire, backing);
	before = look(&wire);
	CHECK(before.probes > HALF_PAGES / 16);
	CHECK(before.probes < HALF_PAGES / 4);
	CHECK_EQ(before.probes_used, 0);
	for (uint64_t page = 0; page < HALF_PAGES / 2; page++)
		CHECK(late_wire_holds(&wire, page, OLD));
	/* a fault is counted after whoever waited was woken */
	do
		after = look(&wire);
	while (after.local.count < after.probes_used);
	CHECK(after.probes_used > 0);
	CHECK(after.probes_used < before.probes);
	/* the source was not needed for any of them */
	CHECK_EQ(after.local.count, after.probes_used);
	CHECK_EQ(after.remote.count, 0);
	bring_rest(&wire);
	for (uint64_t page = 0; page < 2 * HALF_PAGES; page++)
		CHECK(late_wire_holds(&wire, page, OLD));
	/* those that were placed in the end were used by nobody */
	CHECK_EQ(look(&wire).probes_used, after.probes_used);
	late_wire_close(&wire);
}

static void test_use_anonymous(void)
{
	check_use(BACKING_ANONYMOUS);
}

static void test_use_memfd(void)
{
	check_use(BACKING_MEMFD);
}

/* What was pushed is not watched, and neither is a larger page. */
static void check_none(enum backing backing, uint32_t channel)
{
	struct late_wire wire;

	late_wire_open(&wire, backing, 2);
	late_wire_depart(&wire, all);
	late_wire_begin(&wire);
	for (uint64_t block = 0; block < HALF; block++)
		late_wire_pages(&wire, channel, block, all, OLD, true);
	bring_rest(&wire);
	CHECK_EQ(look(&wire).probes, 0);
	CHECK(late_wire_holds(&wire, 5, OLD));
	late_wire_close(&wire);
}

static void test_none_pushed(void)
{
	check_none(BACKING_ANONYMOUS, 0);
}

static void test_none_large(void)
{
	check_none(BACKING_HUGETLB, URGENT);
}

/* A page that is given back is zeros, whether it was mapped or not. */
static void check_given_back(enum backing backing, int advice)
{
	struct late_wire wire;

	open_half(&wire, backing);
	CHECK_EQ(madvise(wire.guest.bytes, 2 * PMIG_BLOCK_BYTES, advice), 0);
	for (uint64_t page = 0; page < PMIG_BLOCK_PAGES; page++)
		if (!late_wire_holds(&wire, page, 0))
			UNIT_FAIL("page %llu has %x", (unsigned long long)page,
				  wire.guest.bytes[page * PMIG_PAGE_BYTES]);
	bring_rest(&wire);
	for (uint64_t page = 0; page < HALF_PAGES; page++)
		CHECK(late_wire_holds(&wire, page,
				      page < 2 * PMIG_BLOCK_PAGES ? 0 : OLD));
	late_wire_close(&wire);
}

static void test_given_back_anonymous(void)
{
	check_given_back(BACKING_ANONYMOUS, MADV_DONTNEED);
}

static void test_given_back_memfd(void)
{
	check_given_back(BACKING_MEMFD, MADV_REMOVE);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_use_anonymous),
		UNIT(test_use_memfd),
		UNIT(test_none_pushed),
		UNIT(test_none_large),
		UNIT(test_given_back_anonymous),
		UNIT(test_given_back_memfd),
		UNIT_END,
	});
}
