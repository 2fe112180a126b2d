/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to a late page between its first byte and its last. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "late_wire.h"
#include "unit.h"

enum {
	OLD = 0x11, /* what the source sends */
	NEW = 0x22, /* what the guest writes */
	UNIT_PAGES = HUGE_BYTES / PMIG_PAGE_BYTES,
	WAIT_MS = 10000,
};

static const uint64_t all = ~UINT64_C(0);

/* Until all is here; where it does not come, the receiver knows why. */
static void wait_complete(struct late_wire *wire)
{
	struct pmig_event event = {.struct_size = sizeof(event)};
	struct pmig_error err;

	if (!pmig_faults_wait(wire->faults, WAIT_MS, &err))
		return;
	CHECK_OK(pmig_receiver_wait(wire->receiver, 0, &event, &err), err);
	UNIT_FAIL("%s", err.message);
}

/*
 * Half of a frame is here when the guest gives its pages back, and uses them
 * anew: the other half is nothing to it.
 */
static void check_given_back(enum backing backing, int advice)
{
	uint8_t body[PMIG_PAGE_BYTES];
	struct late_wire wire;

	memset(body, OLD, sizeof(body));
	late_wire_open(&wire, backing, 1);
	late_wire_depart(&wire, all);
	late_wire_begin(&wire);
	late_wire_pages(&wire, 0, 0, 7, OLD, false);
	late_wire_bytes(&wire, 0, body, sizeof(body));
	late_wire_drain(&wire, 0);
	CHECK_EQ(madvise(wire.guest.bytes, HUGE_BYTES, advice), 0);
	CHECK(late_wire_holds(&wire, 0, 0));
	CHECK(late_wire_holds(&wire, 2, 0));
	memset(wire.guest.bytes + PMIG_PAGE_BYTES, NEW, 2 * PMIG_PAGE_BYTES);
	late_wire_bytes(&wire, 0, body, sizeof(body));
	late_wire_bytes(&wire, 0, body, sizeof(body));
	for (uint64_t block = 8; block < LATE_WIRE_BLOCKS; block++)
		late_wire_pages(&wire, 0, block, all, OLD, true);
	wait_complete(&wire);
	CHECK(late_wire_holds(&wire, 0, 0));
	CHECK(late_wire_holds(&wire, 1, NEW));
	CHECK(late_wire_holds(&wire, 2, NEW));
	CHECK(late_wire_holds(&wire, 3, 0));
	CHECK(late_wire_holds(&wire, UNIT_PAGES, OLD));
	CHECK(late_wire_holds(&wire, 2 * UNIT_PAGES - 1, OLD));
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

static void test_given_back_hugetlb(void)
{
	check_given_back(BACKING_HUGETLB, MADV_REMOVE);
}

static void test_given_back_hugetlb_private(void)
{
	check_given_back(BACKING_HUGETLB_PRIVATE, MADV_DONTNEED);
}

/* A larger page that was here as a whole is zeros once it is given back. */
static void test_given_back_after_it_came(void)
{
	struct late_wire wire;

	late_wire_open(&wire, BACKING_HUGETLB_PRIVATE, 1);
	late_wire_depart(&wire, all);
	late_wire_begin(&wire);
	for (uint64_t block = 0; block < 8; block++)
		late_wire_pages(&wire, 0, block, all, OLD, true);
	CHECK(late_wire_holds(&wire, 5, OLD));
	CHECK_EQ(madvise(wire.guest.bytes, HUGE_BYTES, MADV_DONTNEED), 0);
	CHECK(late_wire_holds(&wire, 5, 0));
	for (uint64_t block = 8; block < LATE_WIRE_BLOCKS; block++)
		late_wire_pages(&wire, 0, block, all, OLD, true);
	wait_complete(&wire);
	CHECK(late_wire_holds(&wire, UNIT_PAGES, OLD));
	CHECK(late_wire_holds(&wire, 6, 0));
	late_wire_close(&wire);
}

static bool is_readable(int fd, const uint8_t *byte)
{
	return pwrite(fd, byte, 1, 0) == 1;
}

/* The missing pages cannot be read, and nothing beside them is touched. */
static void test_neighbours_of_missing_pages_stay(void)
{
	enum {
		BEFORE = 3,
		PAGES = 100,
		BEHIND = 97
	};
	const size_t size_bytes =
		(size_t)(BEFORE + PAGES + BEHIND) * PMIG_PAGE_BYTES;
	const uint64_t missing[2] = {all, (UINT64_C(1) << (PAGES - 64)) - 1};
	const struct pmig_faults_config config = {
		.struct_size = sizeof(config),
		.uffd = -1,
	};
	struct pmig_region region = {
		.struct_size = sizeof(region),
		.kind = PMIG_REGION_RAM,
		.size_bytes = (uint64_t)PAGES * PMIG_PAGE_BYTES,
		.page_size_bytes = PMIG_PAGE_BYTES,
		.fd = -1,
		.name = "ram",
	};
	int fd = memfd_create("probe", MFD_CLOEXEC);
	struct pmig_memory *memory;
	struct pmig_faults *faults;
	struct pmig_error err;
	uint8_t *bytes;
	int rc;

	bytes = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(bytes != MAP_FAILED && fd >= 0);
	region.hva = bytes + (size_t)BEFORE * PMIG_PAGE_BYTES;
	CHECK_OK(pmig_memory_new(&region, 1, &memory, &err), err);
	rc = pmig_faults_new(memory, &config, &faults, &err);
	if (rc == -ENOTSUP)
		UNIT_SKIP("%s", err.message);
	CHECK_OK(rc, err);
	CHECK_OK(pmig_faults_expect(faults, 0, 2, missing, &err), err);
	pmig_faults_free(faults);
	for (unsigned int page = 0; page < BEFORE + PAGES + BEHIND; page++) {
		bool is_missing = page >= BEFORE && page < BEFORE + PAGES;

		CHECK_EQ(
			is_readable(fd, bytes + (size_t)page * PMIG_PAGE_BYTES),
			!is_missing);
	}
	pmig_memory_free(memory);
	munmap(bytes, size_bytes);
	close(fd);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_given_back_anonymous),
		UNIT(test_given_back_memfd),
		UNIT(test_given_back_hugetlb),
		UNIT(test_given_back_hugetlb_private),
		UNIT(test_given_back_after_it_came),
		UNIT(test_neighbours_of_missing_pages_stay),
		UNIT_END,
	});
}
