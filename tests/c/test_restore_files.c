/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are cut off, damaged, or not of a machine. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "random_bytes.h"
#include "restored.h"
#include "unit.h"

enum {
	/* not in the headers of Linux before 5.14 */
	POPULATE_READ = 22,
};

static off_t size_of(int fd)
{
	return lseek(fd, 0, SEEK_END);
}

/* ---- files that are not whole ------------------------------------------ */

/* Why a restore from the file is refused when it is opened. */
static int refusal(int fd, struct pmig_error *err)
{
	struct restored restored;
	int rc;

	restored_open(&restored, BACKING_ANONYMOUS, RECORDED_BYTES, 0, fd);
	rc = pmig_restore_new(restored.memory, restored.faults,
			      &restored.config, &restored.restore, err);
	if (!rc)
		CHECK(restored.restore);
	restored_close(&restored);
	return rc;
}

static void test_truncated(void)
{
	struct recorded recorded;
	struct pmig_error err;
	off_t size;

	recorded_make(&recorded, RECORDED_BYTES, &recorded_tunings[2], 0);
	size = size_of(recorded.fd);
	CHECK_EQ(refusal(recorded.fd, &err), 0);
	for (off_t at = size - 1; at > 0; at = at * 7 / 10) {
		CHECK_EQ(ftruncate(recorded.fd, at), 0);
		CHECK_EQ(refusal(recorded.fd, &err), -EBADMSG);
		CHECK(strstr(err.message, "cut off"));
	}
	CHECK_EQ(ftruncate(recorded.fd, 0), 0);
	CHECK_EQ(refusal(recorded.fd, &err), -EBADMSG);
	recorded_close(&recorded);
}

static void test_something_follows(void)
{
	struct recorded recorded;
	struct pmig_error err;

	recorded_make(&recorded, RECORDED_BYTES, NULL, 0);
	CHECK_EQ(pwrite(recorded.fd, "x", 1, size_of(recorded.fd)), 1);
	CHECK_EQ(refusal(recorded.fd, &err), -EBADMSG);
	CHECK(strstr(err.message, "follows"));
	recorded_close(&recorded);
}

static void test_not_sealed(void)
{
	struct recorded recorded;
	struct pmig_error err;

	recorded_open(&recorded, RECORDED_BYTES);
	recorded_fill(&recorded, 0, RECORDED_PAGES, 1);
	recorded_connect(&recorded);
	recorded_round(&recorded, PMIG_EPOCH_FUZZY);
	CHECK_OK(pmig_sender_end(recorded.sender, &err), err);
	CHECK_EQ(refusal(recorded.fd, &err), -EBADMSG);
	CHECK(strstr(err.message, "sealed"));
	recorded_close(&recorded);
}

static void test_other_machine(void)
{
	struct recorded recorded;
	struct restored restored;
	struct pmig_error err;

	recorded_make(&recorded, RECORDED_BYTES, NULL, 0);
	restored_open(&restored, BACKING_ANONYMOUS, 2 * RECORDED_BYTES, 0,
		      recorded.fd);
	CHECK_EQ(pmig_restore_new(restored.memory, restored.faults,
				  &restored.config, &restored.restore, &err),
		 -EBADMSG);
	restored_close(&restored);
	recorded_close(&recorded);
}

/* A bit of a head is flipped: that shows when the file is opened. */
static void test_damaged_heads(void)
{
	struct recorded recorded;
	struct pmig_error err;
	off_t at = 0;

	recorded_make(&recorded, RECORDED_BYTES, &recorded_tunings[4], 0);
	for (int i = 0; at < size_of(recorded.fd); i++) {
		uint32_t sizes[2];
		uint8_t byte;
		off_t where;

		CHECK_EQ(pread(recorded.fd, sizes, 8, at + 20), 8);
		where = at + i % (40 + (int)sizes[0]);
		CHECK_EQ(pread(recorded.fd, &byte, 1, where), 1);
		byte ^= (uint8_t)(1 << i % 8);
		CHECK_EQ(pwrite(recorded.fd, &byte, 1, where), 1);
		CHECK_EQ(refusal(recorded.fd, &err), -EBADMSG);
		byte ^= (uint8_t)(1 << i % 8);
		CHECK_EQ(pwrite(recorded.fd, &byte, 1, where), 1);
		at += 40 + (off_t)sizes[0] + sizes[1];
	}
	CHECK_EQ(refusal(recorded.fd, &err), 0);
	recorded_close(&recorded);
}

/*
 * A page is damaged: waiting for completion says so, that page never comes,
 * and the others do.
 */
static void check_damaged_page(const struct pmig_tuning *tuning)
{
	const uint64_t page = RECORDED_PAGES - 1; /* of noise, sent once */
	uint64_t missing[RECORDED_PAGES / 64], left = 0;
	struct recorded recorded;
	struct restored restored;
	struct pmig_error err;
	uint64_t seed = 5;
	uint8_t junk[64];

	recorded_open(&recorded, RECORDED_BYTES);
	recorded.tuning = *tuning;
	recorded_fill(&recorded, 0, RECORDED_PAGES, 7);
	recorded_connect(&recorded);
	recorded_seal(&recorded);
	random_fill(&seed, junk, sizeof(junk));
	/* before EPOCH_END, END, and a bit */
	CHECK_EQ(pwrite(recorded.fd, junk, sizeof(junk),
			size_of(recorded.fd) - 80 - 48 - 200),
		 sizeof(junk));
	restored_open(&restored, BACKING_ANONYMOUS, RECORDED_BYTES, 0,
		      recorded.fd);
	restored_start(&restored);
	CHECK_EQ(pmig_restore_wait(restored.restore, 20000, &err), -EBADMSG);
	CHECK(strstr(err.message, "page"));
	/* faults are answered still */
	for (uint64_t i = 0; i < RECORDED_PAGES - 64; i += 5)
		CHECK(restored_same(&restored, &recorded, i));
	CHECK_OK(pmig_faults_missing(restored.faults, 0, RECORDED_PAGES / 64,
				     missing, &err),
		 err);
	CHECK(missing[page / 64] >> page % 64 & 1);
	for (uint64_t i = 0; i < RECORDED_PAGES / 64; i++)
		left += (uint64_t)__builtin_popcountll(missing[i]);
	CHECK(left >= 1 && left <= 64);
	pmig_restore_free(restored.restore);
	restored.restore = NULL;
	pmig_faults_free(restored.faults);
	restored.faults = NULL;
	/* nor does anybody ever find zeros there */
	CHECK_EQ(madvise(restored.backed.bytes + page * PMIG_PAGE_BYTES,
			 PMIG_PAGE_BYTES, POPULATE_READ),
		 -1);
	restored_close(&restored);
	recorded_close(&recorded);
}

static void test_damaged_raw_page(void)
{
	check_damaged_page(&recorded_tunings[0]);
}

static void test_damaged_lz4_page(void)
{
	check_damaged_page(&recorded_tunings[2]);
}

static void test_damaged_zstd_page(void)
{
	check_damaged_page(&recorded_tunings[4]);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_truncated),
		UNIT(test_something_follows),
		UNIT(test_not_sealed),
		UNIT(test_other_machine),
		UNIT(test_damaged_heads),
		UNIT(test_damaged_raw_page),
		UNIT(test_damaged_lz4_page),
		UNIT(test_damaged_zstd_page),
		UNIT_END,
	});
}
