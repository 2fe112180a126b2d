/* SPDX-License-Identifier: Apache-2.0 */
/* Memory as it is in a file, with holes and zeros. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "restored.h"
#include "unit.h"

/* ---- memory as it is --------------------------------------------------- */

enum {
	RAW_BEGIN = 3 * PMIG_PAGE_BYTES,
};

/* A file with a third of zeros, and a hole in the middle. */
static int write_raw(const struct recorded *recorded)
{
	int fd = memfd_create("raw", MFD_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, RAW_BEGIN + RECORDED_BYTES), 0);
	for (uint64_t page = 0; page < RECORDED_PAGES; page++) {
		const uint8_t *bytes =
			recorded->source.bytes + page * PMIG_PAGE_BYTES;
		off_t at = (off_t)(RAW_BEGIN + page * PMIG_PAGE_BYTES);

		if (page < RECORDED_PAGES / 4 || page >= RECORDED_PAGES / 2)
			CHECK_EQ(pwrite(fd, bytes, PMIG_PAGE_BYTES, at),
				 PMIG_PAGE_BYTES);
	}
	return fd;
}

static void check_raw(enum backing backing)
{
	const uint64_t offset = RAW_BEGIN;
	struct pmig_restore_report report;
	struct recorded recorded;
	struct restored restored;
	int fd;

	recorded_open(&recorded, RECORDED_BYTES);
	recorded_fill(&recorded, 0, RECORDED_PAGES / 4, 3);
	recorded_fill(&recorded, RECORDED_PAGES / 2, RECORDED_PAGES / 2, 3);
	fd = write_raw(&recorded);
	restored_open(&restored, backing, RECORDED_BYTES, 0, fd);
	restored.config.format = PMIG_RESTORE_RAW;
	restored.config.offsets = &offset;
	restored_start(&restored);
	pmig_restore_report(restored.restore, &report);
	CHECK_EQ(report.stored_pages, RECORDED_PAGES - RECORDED_PAGES / 4);
	CHECK_EQ(report.frames, 0);
	restored_run(&restored, &recorded);
	restored_wait(&restored);
	restored_check(&restored, &recorded);
	restored_close(&restored);
	recorded_close(&recorded);
	close(fd);
}

static void test_raw_anonymous(void)
{
	check_raw(BACKING_ANONYMOUS);
}

static void test_raw_memfd(void)
{
	check_raw(BACKING_MEMFD);
}

static void test_raw_hugetlb(void)
{
	check_raw(BACKING_HUGETLB);
}

static void test_raw_cut_off(void)
{
	const uint64_t offset = 0;
	struct restored restored;
	struct pmig_error err;
	int fd = memfd_create("raw", MFD_CLOEXEC);

	CHECK_EQ(ftruncate(fd, RECORDED_BYTES - PMIG_PAGE_BYTES), 0);
	restored_open(&restored, BACKING_ANONYMOUS, RECORDED_BYTES, 0, fd);
	restored.config.format = PMIG_RESTORE_RAW;
	restored.config.offsets = &offset;
	CHECK_EQ(pmig_restore_new(restored.memory, restored.faults,
				  &restored.config, &restored.restore, &err),
		 -EBADMSG);
	CHECK(strstr(err.message, "cut off"));
	restored_close(&restored);
	close(fd);
}

int main(void)
{
	return unit_run((struct unit_test[]){
		UNIT(test_raw_anonymous),
		UNIT(test_raw_memfd),
		UNIT(test_raw_hugetlb),
		UNIT(test_raw_cut_off),
		UNIT_END,
	});
}
